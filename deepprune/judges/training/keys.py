"""The keys of a training recipe: what each setting of LLaMA-Factory and transformers would do to a judge."""

# Every setting of LLaMA-Factory 0.9.5 and transformers 5.19 stands in one of two tables. ACCEPTED ones leave the loss,
# the rows and the prompt as they are; a newer version's setting that stands in neither is refused.
ACCEPTED = frozenset(
    """
    model_name_or_path adapter_name_or_path adapter_folder cache_dir model_revision low_cpu_mem_usage flash_attn
    disable_gradient_checkpointing use_reentrant_gc upcast_layernorm upcast_lmhead_output train_from_scratch
    offload_folder use_kv_cache print_param_status quantization_method quantization_bit quantization_type
    double_quantization quantization_device_map template dataset eval_dataset dataset_dir cutoff_len
    overwrite_cache preprocessing_batch_size preprocessing_num_workers max_samples eval_on_each_dataset
    enable_thinking data_shared_file_system output_dir overwrite_output_dir do_train do_eval
    per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
    warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon gradient_accumulation_steps
    max_grad_norm bf16 fp16 bf16_full_eval fp16_full_eval tf32 gradient_checkpointing
    gradient_checkpointing_kwargs use_cache torch_empty_cache_steps logging_strategy logging_steps
    logging_first_step log_on_each_node include_num_input_tokens_seen log_level log_level_replica disable_tqdm
    report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id eval_strategy eval_steps
    eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches
    eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics save_strategy save_steps
    save_on_each_node save_total_limit push_to_hub hub_private_repo hub_model_id hub_strategy hub_always_push
    hub_revision load_best_model_at_end metric_for_best_model greater_is_better
    restore_callback_states_from_checkpoint full_determinism seed data_seed use_cpu accelerator_config
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy length_column_name
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    fsdp fsdp_config deepspeed debug skip_memory_metrics local_rank enable_torch_profiler profiler_output_dir
    profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat profiler_record_shapes
    profiler_profile_memory profiler_with_stack profile_modules stage finetuning_type freeze_trainable_layers
    freeze_trainable_modules freeze_extra_modules additional_target module_dropout oft_rank oft_block_size
    oft_target create_new_adapter lora_alpha lora_dropout lora_rank lora_target loraplus_lr_ratio
    loraplus_lr_embedding use_rslora use_dora pissa_init pissa_iter pissa_convert pure_bf16 use_llama_pro
    use_adam_mini use_muon freeze_vision_tower freeze_multi_modal_projector freeze_language_model compute_accuracy
    disable_shuffling early_stopping_steps plot_loss include_effective_tokens_per_second use_swanlab
    swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_logdir
    """.split()
)
# Settings that are refused unless they have their default value, by the reason.
REFUSED = {
    "does not go together with our loss": """label_smoothing_factor use_dft_loss use_eaft_loss eaft_alpha
        use_asft_loss asft_alpha train_on_prompt enable_liger_kernel use_liger_kernel liger_kernel_config
        use_unsloth use_unsloth_gc use_kt use_v1_kernels moe_aux_loss_coef use_hyper_parallel hyper_parallel_args
        use_mca parallelism_config average_tokens_across_devices label_names ignore_pad_token_for_loss fp8
        fp8_backend fp8_enable_fsdp_float8_all_gather torch_compile torch_compile_backend torch_compile_mode""",
    "would train on noisy embeddings, which evaluation has not": "neftune_noise_alpha",
    "lets pairs see each other, which they do not in evaluation": "packing neat_packing",
    "would train another model than the one that is evaluated": """resize_vocab add_tokens add_special_tokens
        new_special_tokens_config init_special_tokens rope_scaling shift_attn mixture_of_depths""",
    "would write another prompt than the evaluation's": """split_special_tokens use_fast_tokenizer mask_history
        tool_format default_system preserve_thinking""",
    "would train on rows that were not checked": "streaming buffer_size tokenized_path",
    "would leave rows out or repeat them in silence": """mix_strategy interleave_probs dataloader_drop_last
        ignore_data_skip auto_find_batch_size""",
    "would put pairs of one problem on both sides (name held-out problems with eval_dataset)": "val_size",
    "updates weights before their gradients could be checked": """use_galore galore_target galore_rank
        galore_update_interval galore_scale galore_proj_type galore_layerwise use_apollo apollo_target apollo_rank
        apollo_update_interval apollo_scale apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise
        apollo_scale_front use_badam badam_mode badam_start_block badam_switch_mode badam_switch_interval
        badam_update_ratio badam_mask_mode badam_verbose optim_target_modules""",
    "is not needed (the last whole checkpoint is found without it)": "resume_from_checkpoint",
    "leaves checkpoints from which a killed run cannot go on": "save_only_model enable_jit_checkpoint",
    "is switched off here always: it hides losses that are not finite": "logging_nan_inf_filter",
    "would stand in the manifest (use the environment: HF_TOKEN, SWANLAB_API_KEY)": """hf_hub_token ms_hub_token
        om_hub_token hub_token swanlab_api_key swanlab_lark_webhook_url swanlab_lark_secret""",
    "would run code from the hub": "trust_remote_code",
    "does nothing in the training of a judge": """infer_backend infer_dtype image_max_pixels image_min_pixels
        image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen
        use_audio_in_video audio_sampling_rate export_dir export_size export_device export_quantization_bit
        export_quantization_dataset export_quantization_nsamples export_quantization_maxlen export_legacy_format
        export_hub_model_id kt_weight_path kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num
        kt_lora_expert_intermediate_size vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config
        sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend media_dir eval_num_beams
        remove_unused_columns do_predict predict_with_generate sortish_sampler generation_max_length
        generation_num_beams generation_config ray_num_workers ray_init_kwargs master_addr master_port pref_beta
        pref_ftx pref_bco_weight pref_loss dpo_label_smoothing kto_chosen_weight kto_rejected_weight simpo_gamma
        ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards ref_model ref_model_adapters
        ref_model_quantization_bit reward_model reward_model_adapters reward_model_quantization_bit
        reward_model_type ld_alpha do_sample temperature top_p top_k num_beams max_length max_new_tokens
        repetition_penalty length_penalty skip_special_tokens""",
}  # fmt: skip
REASONS = {name: reason for reason, names in REFUSED.items() for name in names.split()}
# Least value of a setting, where another ends in a traceback or in a training that does nothing.
LEAST = {
    "cutoff_len": 1, "max_samples": 1, "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1, "lora_rank": 1, "lora_alpha": 1, "save_total_limit": 1,
    "preprocessing_batch_size": 1, "preprocessing_num_workers": 1, "dataloader_num_workers": 0, "weight_decay": 0,
    "max_grad_norm": 0, "warmup_steps": 0, "lora_dropout": 0, "seed": 0, "data_seed": 0, "early_stopping_steps": 1,
    "eval_accumulation_steps": 1, "eval_delay": 0, "module_dropout": 0, "dataloader_prefetch_factor": 1,
    "ddp_timeout": 1, "ddp_bucket_cap_mb": 1, "torch_empty_cache_steps": 1, "loraplus_lr_ratio": 0,
    "loraplus_lr_embedding": 0, "quantization_bit": 2,
}  # fmt: skip
POSITIVE = ("learning_rate", "num_train_epochs", "logging_steps", "save_steps", "eval_steps")
