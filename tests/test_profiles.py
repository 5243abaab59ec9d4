"""Judge profiles: how a judge is asked and what it answers, from its YAML to p_same and to the loss."""

import dataclasses
import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import toys
from conftest import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from deepprune import judges
from deepprune.base.errors import UserError
from deepprune.data.truncation import Truncation
from deepprune.evaluate import report_page
from deepprune.judges import Request, profiles
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import DEFAULT, Profile
from deepprune.judges.training.focal_loss import IGNORE, Answers, FocalLoss, LabelOnly

OTHER = Profile(
    system=None,
    user="{prefix_a}\n---\n{prefix_b}\nThe question was {question}. Equal?",
    different=" not equal",
    same=" all equal",
    answer_prefix="Answer:",
    chat_template={},
    truncation=Truncation("words", 2, ("so", "wait")),
    unknown=("user",),
)
FILE = """\
system: Compare.
user: '{question} {prefix_a} {prefix_b}'
labels: {different: 'no', same: 'yes'}
"""


@pytest.fixture(scope="module")
def tokenizer(smol):
    return AutoTokenizer.from_pretrained(smol)


@pytest.fixture(scope="module")
def judge_folder(tiny, tmp_path_factory):
    """A copy of the tiny model with OTHER beside its weights."""
    folder = tmp_path_factory.mktemp("profiled")
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    profiles.save(OTHER, folder / profiles.FILE)
    return str(folder)


@pytest.mark.parametrize(
    "profile", [DEFAULT, OTHER, dataclasses.replace(DEFAULT, truncation=Truncation("tokens", 500))]
)
def test_a_profile_is_read_as_it_was_written(tmp_path, profile):
    profiles.save(profile, tmp_path / "p.yaml")
    again = profiles.load(tmp_path / "p.yaml")
    assert again == profile and again.version == profile.version


def test_every_part_of_what_is_asked_and_answered_is_in_the_version():
    """The truncation is not: it stands beside it wherever scores are kept."""
    changes = (
        {"system": None},
        {"user": OTHER.user},
        {"different": "No"},
        {"answer_prefix": "A:"},
        {"chat_template": {}},
    )
    versions = {dataclasses.replace(DEFAULT, **change).version for change in changes}
    assert len(versions | {DEFAULT.version}) == 6
    assert dataclasses.replace(DEFAULT, truncation=Truncation(), unknown=("user",)).version == DEFAULT.version


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (FILE + "lables: 3\n", 4, "unknown key 'lables'"),
        (FILE.replace("'no'", "no").replace("'yes'", "yes"), 3, "two texts in quotes"),
        (FILE.replace("'yes'", "'no'"), 3, "labels should be two different texts"),
        (FILE.replace("{question} ", ""), 2, "user should be a text with {question}"),
        (FILE.replace("{prefix_a} {prefix_b}", "{prefix_b} {prefix_a}"), 2, "prefix_a first"),
        (FILE + "chat_template: [1]\n", 4, "chat_template should be arguments by name"),
        (FILE + "truncation: {k: 3}\n", 4, "truncation should be {strategy: words, k: 25}"),
        (FILE + "truncation: {strategy: words, k: '3'}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: letters, k: 3}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: true}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: 2.5}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: 3, words: []}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: 3, words: wait thus}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: 3, words: [wait a bit]}\n", 4, "truncation should be"),
        (FILE + "truncation: {strategy: words, k: 3, words: [no]}\n", 4, "truncation should be"),
        (FILE + "chat_template: {tokenize: true}\n", 4, "chat_template should be without tokenize, which"),
        (FILE + "chat_template: {messages: []}\n", 4, "chat_template should be without messages, which"),
        (FILE + "chat_template: {date_string: 2024-01-02}\n", 4, "chat_template should be texts, numbers"),
        (FILE + "chat_template: {1: true}\n", 4, "chat_template should be texts, numbers"),
        (FILE + "unknown: [tokens]\n", 4, "unknown should be a list of system, user"),
        (FILE + "unknown: [[user]]\n", 4, "unknown should be a list of system, user"),
    ],
)
def test_a_broken_profile_is_named_with_its_line(tmp_path, text, line, says):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        profiles.load(file)
    assert str(error.value).startswith(f"{file}:{line}: ") and says in str(error.value)
    with pytest.raises(UserError, match=r"none\.yaml: no such file \(a judge profile; see docs/published_judge\.md\)"):
        profiles.load(tmp_path / "none.yaml")


def test_the_profile_beside_the_weights_is_taken_and_another_one_is_refused(judge_folder, tiny, tmp_path):
    assert judges.profile_of("vllm", judge_folder) == OTHER
    assert judges.describe("vllm", judge_folder)["prompt_version"] == OTHER.version != DEFAULT.version
    assert judges.profile_of("vllm", tiny) == judges.profile_of("random") == DEFAULT
    profiles.save(OTHER, tmp_path / "same.yaml")
    profiles.save(dataclasses.replace(OTHER, same=" alike"), tmp_path / "other.yaml")
    profiles.save(dataclasses.replace(OTHER, truncation=Truncation()), tmp_path / "cut.yaml")
    assert judges.profile_of("vllm", tiny, tmp_path / "other.yaml").same == " alike"  # nothing is known of its weights
    assert judges.profile_of("vllm", judge_folder, tmp_path / "same.yaml") == OTHER
    for kind in ("sbert", "oracle", "random"):  # it would change nothing
        with pytest.raises(UserError, match=f"asked with its texts: judge '{kind}' is not"):
            judges.profile_of(kind, tiny, tmp_path / "same.yaml")
    for name in ("other.yaml", "cut.yaml"):
        with pytest.raises(UserError, match=f"{name}: is not the profile that .* was trained with"):
            judges.profile_of("vllm", judge_folder, tmp_path / name)


def test_weights_that_were_trained_here_without_a_profile_were_trained_with_ours(tiny, tmp_path):
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "judge")
    (tmp_path / "judge/config.json").write_text("{}")
    (tmp_path / "judge/manifest.json").write_text(json.dumps({"stage": "train", "complete": True}))
    profiles.save(OTHER, tmp_path / "other.yaml")
    with pytest.raises(UserError, match="is not the profile"):
        profiles.profile_of(str(tmp_path / "judge"), tmp_path / "other.yaml")


def test_another_truncation_than_the_judges_is_refused_unless_asked_for():
    own = OTHER.truncation.as_dict()
    OTHER.check_truncation([own])
    DEFAULT.check_truncation([own, {"strategy": "tokens", "k": 3}])  # not known: anything goes
    for cut in ({"strategy": "words", "k": 2}, own | {"k": 3}, {"strategy": "tokens", "k": 2}):
        with pytest.raises(UserError, match="--other-truncation"):
            OTHER.check_truncation([own, cut])
        OTHER.check_truncation([cut], anyway=True)


def test_a_prompt_is_the_template_then_the_answers_prefix(tokenizer):
    prompts = PairPrompts(OTHER, tokenizer)
    text = tokenizer.decode(prompts.ids(Request("how {many}?", "a {prefix_b}", "b", "t1", "t2")))
    assert text.endswith("assistant\nAnswer:")
    assert "a {prefix_b}\n---\nb\nThe question was how {many}?. Equal?" in text
    assert prompts.steps[()] == [prompts.labels[0][0], prompts.labels[1][0]] and len(prompts.labels[0]) > 1


def test_a_frame_and_two_prefixes_are_what_is_read(tokenizer):
    prompts = PairPrompts(OTHER, tokenizer)
    first, second = "We add 3 and 4", "So 12 is"
    frame = prompts.frame("how many?")
    lengths = [len(tokenizer.encode(text, add_special_tokens=False)) for text in (first, second)]
    ids = prompts.ids(Request("how many?", first, second, "t1", "t2"))
    assert frame.head + frame.middle + frame.tail + sum(lengths) == prompts.read(ids) == len(ids) + 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"different": " all equal not"}, "cannot be told apart"),
        ({"answer_prefix": "Answer: ", "different": "no", "same": "no way"}, "cannot be told apart"),
    ],
)
def test_answers_that_the_tokenizer_cannot_tell_apart_are_refused(tokenizer, change, says):
    with pytest.raises(UserError, match=says):
        PairPrompts(dataclasses.replace(OTHER, **change), tokenizer)


@pytest.mark.parametrize(
    ("prefix", "labels", "begins", "first"),
    [
        ("<think>\n\n</think>\n\n", ("no", "yes"), "<think>\n\n</think>\n\n", "no"),
        ("Answer: ", ("no", "yes"), "Answer:", " no"),
        ("Answer:", (" not equal", " not the same"), "Answer:", " not equal"),  # a first token of both is the label's
        ("Answer: ", ("not equal", "not the same"), "Answer:", " not equal"),
        ("答案：", ("不同", "相同"), "答案：", "不同"),
        ("答案：", ("❌", "✅"), "答案：", "❌"),
        ("", ("❌", "✅"), "", "❌"),
    ],
)
def test_prefix_and_label_are_the_tokens_of_the_answer_as_it_is_trained(tokenizer, prefix, labels, begins, first):
    different, same = labels
    profile = dataclasses.replace(OTHER, answer_prefix=prefix, different=different, same=same)
    prompts = PairPrompts(profile, tokenizer)
    for answer, label in zip(profile.answers, prompts.labels, strict=True):
        assert [*prompts.answer, *label] == tokenizer.encode(answer, add_special_tokens=False)
    assert (tokenizer.decode(prompts.answer), tokenizer.decode(prompts.labels[0])) == (begins, first)


def test_p_same_is_the_normalised_probability_of_the_whole_label(judge_folder, capsys):
    """Against the product of each token's probability, one unbatched forward pass at a time."""
    judge = judges.open_judge("transformers", judge_folder, dtype="float32", batch=5)
    assert "of its profile user is guessed" in capsys.readouterr().err
    asked = toys.requests()[:7]
    scores = judge.score(asked)
    model = AutoModelForCausalLM.from_pretrained(judge_folder, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(judge_folder)
    for request, score in zip(asked, scores, strict=True):
        whole = []
        for label in (" not equal", " all equal"):
            ids, logprob = PairPrompts(OTHER, tokenizer).ids(request), 0.0
            for token in tokenizer.encode(label):
                with torch.no_grad():
                    logprob += model(torch.tensor([ids])).logits[0, -1].log_softmax(0)[token].item()
                ids = [*ids, token]
            whole.append(math.exp(logprob))
        assert score.p_same == pytest.approx(whole[1] / sum(whole), abs=1e-3)
        assert score.label_mass == pytest.approx(sum(whole), rel=1e-2)


def test_the_loss_is_on_the_tokens_of_the_label_alone():
    """An answer of prefix 7, a label of two tokens or one, and the end 2."""
    answers = Answers(((5, 6), (9,)), (7,))
    labels = torch.tensor([[IGNORE, IGNORE, 7, 5, 6, 2], [IGNORE, 7, 9, 2, IGNORE, IGNORE]])
    hidden = LabelOnly(lambda features: {"labels": labels}, answers)([])["labels"]
    assert hidden.ne(IGNORE).nonzero().tolist() == [[0, 3], [0, 4], [1, 2]]
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 12)
    p = logits.softmax(-1)
    chosen = [p[0, 2, 5], p[0, 3, 6], p[1, 1, 9]]
    losses = [-((1 - q) ** 2) * q.log() for q in chosen]
    expected = (0.3 * (losses[0] + losses[1]) + 0.7 * losses[2]) / 3
    loss = FocalLoss(2.0, [0.3, 0.7], answers)({"logits": logits}, hidden)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # In scope 'all' the prefix and the end count as well, with weight 1.
    beside = [p[0, 1, 7], p[0, 4, 2], p[1, 0, 7], p[1, 2, 2]]
    expected = (3 * expected + sum(-((1 - q) ** 2) * q.log() for q in beside)) / 7
    loss = FocalLoss(2.0, [0.3, 0.7], answers, labels_only=False)({"logits": logits}, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_the_published_judge_was_trained_on_is_said_and_stands_in_the_report(tiny, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "DeepPrune-Judge-4B"
    shutil.copytree(tiny, folder)
    described = judges.describe("transformers", str(folder))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == described["leak"] and line.startswith(described["name"]) and "AIME 2025 and GPQA" in line
    assert "leak" not in judges.describe("transformers", tiny) and not capsys.readouterr().err
    monkeypatch.setattr(report_page, "_judges", lambda numbers: [])
    numbers = dict.fromkeys(("run", "scale", "resamples", "seed", "commit"), "1") | {
        "judges": {described["name"]: {}, "another@1": {}},
        "inputs": [{"file": "pairs.jsonl", "sha256": "0" * 64, "commit": "c"}],
    }
    assert report_page.to_markdown(numbers).count(f"**{line}.**") == 1


def test_the_published_judges_profile_says_what_it_guesses():
    published = profiles.load(ROOT / "Offline" / "DeepPrune-Judge-4B.profile.yaml")
    assert set(published.unknown) >= {"system", "user", "labels"} and published.truncation == Truncation("words", 25)
    assert published.version != DEFAULT.version  # scores under the guess never mix with ours


@pytest.mark.parametrize("profile", [DEFAULT, OTHER])
def test_on_vllm_the_later_tokens_of_a_label_are_asked_after_other_prompts(tiny, tmp_path, monkeypatch, profile):
    """The engine is a table of log-probabilities; of 7 pairs with room for 2, all answers come in the order asked."""
    from deepprune.engines import engine
    from deepprune.judges.vllm import VLLMJudge

    asked = []

    def run(llm, requests, window):
        for name, prompt, tokens in requests:
            ids = prompt["prompt_token_ids"]
            asked.append(name)
            logprobs = {token: SimpleNamespace(logprob=-((token * len(ids)) % 7) - 1.0) for token in tokens}
            outputs = [SimpleNamespace(logprobs=[logprobs])]
            yield name, SimpleNamespace(outputs=outputs, prompt_token_ids=ids, num_cached_tokens=3)

    model_config = SimpleNamespace(max_model_len=1000)
    llm = SimpleNamespace(llm_engine=SimpleNamespace(model_config=model_config))
    monkeypatch.setattr(engine, "start", lambda folder, **options: llm)
    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setattr(VLLMJudge, "_params", lambda self, tokens: tokens)
    profiles.save(profile, tmp_path / "own.yaml")
    judge = judges.open_judge("vllm", tiny, batch=2, judge_profile=str(tmp_path / "own.yaml"))
    requests = toys.requests()[:7]
    scores = judge.score(requests)
    steps = list(judge.prompts.steps)
    assert len(asked) == 7 * len(steps) and asked[:3] == ["0/0", "1/0", "2/0"]
    assert len(steps) == 1 or asked[3:6] == ["0/1", "0/2", "3/0"]
    for request, score in zip(requests, scores, strict=True):
        ids, whole = judge.prompts.ids(request), []
        for label in judge.prompts.labels:
            parts = [-((token * (len(ids) + at)) % 7) - 1.0 for at, token in enumerate(label)]
            whole.append(math.exp(sum(parts)))
        assert score.p_same == pytest.approx(whole[1] / sum(whole)) and score.label_mass == pytest.approx(sum(whole))
        assert score.prompt_tokens == judge.prompts.read(ids) and score.cached_tokens == 3
