"""How a judge is asked and what it answers: one place for training, evaluation, clustering and live pruning.

A profile is a small YAML beside a judge's weights (judge_profile.yaml, written by training), or --judge-profile FILE:

    system: You compare the beginnings of two solutions ...
    user: |-                                # the slots {question}, {prefix_a}, {prefix_b}; prefix_a before prefix_b
      Problem:
      {question}
      ...
    labels: {different: 'no', same: 'yes'}  # in quotes: YAML takes a bare no for false
    answer_prefix: ''                       # what stands before the label in the answer, as 'Answer: '
    chat_template: {enable_thinking: false} # arguments of the tokenizer's chat template
    truncation: {strategy: words, k: 25}    # that it was trained with; leave it out where it is not known
    unknown: [user, labels]                 # parts that are guesses; said whenever the judge is opened
    second: '{prefix_b}'                    # classifiers of two texts alone: the second, then the slots are in both

What repeats comes first (instructions, question, trace A = the cluster's representative), what changes comes last
(trace B = the new trace), so that an engine's prefix cache does most of the work. A label may be several tokens: p_same
is the normalised probability of the whole label.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepprune.base import arguments, jsonl, manifest, yaml_files
from deepprune.base.errors import UserError
from deepprune.base.records import content_hash
from deepprune.data.reasoning_words import checked
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.judges.prompts import plain

FILE = "judge_profile.yaml"
KEYS = ("system", "user", "second", "labels", "answer_prefix", "chat_template", "truncation", "unknown")
SLOTS = ("{question}", "{prefix_a}", "{prefix_b}")
THINKING_OFF = {"enable_thinking": False}  # templates that can think (Qwen3) are asked not to: the label comes first

SYSTEM = (
    "You compare the beginnings of two solutions to the same problem and predict whether they will reach the same "
    "final answer."
)

USER = """Problem:
{question}

Solution A (beginning):
{prefix_a}

Solution B (beginning):
{prefix_b}

Will solutions A and B end in the same final answer? Reply yes or no."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """A judge's prompt and answer. The fields are the keys of its YAML, but for labels: {different, same}."""

    system: str | None = SYSTEM
    user: str = USER
    different: str = "no"
    same: str = "yes"
    answer_prefix: str = ""
    chat_template: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(THINKING_OFF))
    truncation: Truncation | None = None  # None: not known
    unknown: tuple[str, ...] = ()
    second: str | None = None  # a classifier's second text; the slots are in both together

    @property
    def labels(self) -> tuple[str, str]:
        """By a pair's label: 0 different, 1 same."""
        return self.different, self.same

    @functools.cached_property
    def version(self) -> str:
        """Hash of all that is asked and answered: stored scores are valid for one version only."""
        more = {"answer_prefix": self.answer_prefix} if self.answer_prefix else {}
        more |= {"second": self.second} if self.second is not None else {}
        more |= {"chat_template": dict(self.chat_template)} if self.chat_template != THINKING_OFF else {}
        return content_hash("prompt", self.system, self.user, self.labels, *([more] if more else []))

    @functools.cached_property
    def parts(self) -> list[str]:
        """The user template cut at its slots: text, slot, text ..."""
        return cut_at_slots(self.user)

    def user_message(self, question: str, prefix_a: str, prefix_b: str, tokenizer: Any = None) -> str:
        """The user turn for one pair (no str.format: traces hold braces). tokenizer: the judge's, see `plain`."""
        return filled(self.parts, (question, prefix_a, prefix_b), tokenizer)

    def second_message(self, question: str, prefix_a: str, prefix_b: str, tokenizer: Any = None) -> str | None:
        """A classifier's second text; None where it takes one."""
        return self.second and filled(cut_at_slots(self.second), (question, prefix_a, prefix_b), tokenizer)

    def training_row(
        self, question: str, prefix_a: str, prefix_b: str, label: int, tokenizer: Any = None
    ) -> dict[str, str]:
        """A pair in LLaMA-Factory's alpaca format (system, instruction, input, output).

        tokenizer: the judge's. LLaMA-Factory takes its special tokens in a row's text for what they are, so they are
        broken up here, as they are when the judge is asked.
        """
        return {
            "system": self.system or "",
            "instruction": self.user_message(question, prefix_a, prefix_b, tokenizer),
            "input": "",
            "output": self.answers[label],
        }

    @property
    def answers(self) -> tuple[str, str]:
        """What the judge is trained to write, by a pair's label."""
        return self.answer_prefix + self.different, self.answer_prefix + self.same

    def row_problem(self, system: str, instruction: str) -> str | None:
        """What of a training row is not as this profile writes it; None if all is."""
        if system != (self.system or ""):
            return "its system text is another"
        if not (instruction.startswith(self.parts[0]) and instruction.endswith(self.parts[-1])):
            return "its prompt begins or ends otherwise"
        return None

    def check_truncation(self, cuts: Iterable[Mapping[str, Any]], anyway: bool = False) -> None:
        """Raise UserError if traces are cut otherwise than the judge was trained with.

        cuts: Truncation.as_dict of each, as it stands in pairs; anyway: it was asked for.
        """
        if self.truncation is None or anyway:
            return
        trained = self.truncation.as_dict()
        for cut in cuts:
            if cut != trained:
                raise UserError(
                    f"the judge was trained on traces cut by {in_words(trained)}, these are cut by {in_words(cut)}: "
                    "cut them so (--truncation, --truncation-k, --reasoning-words), or ask it all the same with "
                    "--other-truncation"
                )


def cut_at_slots(template: str) -> list[str]:
    """text, slot, text ..."""
    return re.split(f"({'|'.join(map(re.escape, SLOTS))})", template)


def filled(parts: list[str], texts: tuple[str, str, str], tokenizer: Any) -> str:
    """A template's parts with the texts in its slots."""
    values = dict(zip(SLOTS, texts, strict=True))
    return "".join(plain(values[part], tokenizer).strip() if part in values else part for part in parts)


DEFAULT = Profile()
CLASSIFIER = Profile(  # a classifier without a profile: the two texts of a cross-encoder
    None, "{question}\n\n{prefix_a}", "different", "same", "", {}, second="{prefix_b}"
)


def in_words(cut: Mapping[str, Any]) -> str:
    """A truncation as 'words, k = 25'."""
    words = f", word list {cut['words']}" if "words" in cut else ""
    return f"{cut['strategy']}, k = {cut['k']}{words}"


def load(path: str | Path) -> Profile:
    """A profile's YAML. Raises UserError naming file and line."""
    data = yaml_files.read(path, "a judge profile; see docs/published_judge.md")

    def refuse(key: str, wanted: str):
        raise UserError(f"{path}:{yaml_files.line_of(path, key)}: {key} should be {wanted}, found {data.get(key)!r}")

    for key in data:
        if key not in KEYS:
            line = yaml_files.line_of(path, key)
            raise UserError(f"{path}:{line}: unknown key {key!r}; a judge profile has {', '.join(KEYS)}")
    optional = {"system": None, "second": None, "answer_prefix": "", "chat_template": dict(THINKING_OFF), "unknown": []}
    data = optional | data
    user, labels, truncation = data.get("user"), data.get("labels"), data.get("truncation")
    texts = f"{user}{data['second'] or ''}"
    if (
        not is_text(user)
        or any(texts.count(slot) != 1 for slot in SLOTS)
        or texts.find(SLOTS[1]) > texts.find(SLOTS[2])
    ):
        refuse("user", f"a text with {', '.join(SLOTS)} once each, prefix_a first (what repeats comes first)")
    if not isinstance(labels, dict) or set(labels) != {"different", "same"} or not all(map(is_text, labels.values())):
        refuse("labels", "{different: 'no', same: 'yes'}, two texts in quotes")
    if labels["different"] == labels["same"]:
        refuse("labels", "two different texts")
    for key, kind, wanted in (
        ("system", str | None, "a text, or null"),
        ("second", str | None, "a text, or null"),
        ("answer_prefix", str, "a text"),
        ("chat_template", dict, "arguments by name"),
        ("truncation", dict | None, "{strategy: words, k: 25}"),
        ("unknown", list, f"a list of {', '.join(KEYS)}"),
    ):
        if not isinstance(data.get(key), kind):
            refuse(key, wanted)
    if any(part not in KEYS for part in data["unknown"]):
        refuse("unknown", f"a list of {', '.join(KEYS)}")
    if taken := arguments.OF_TEMPLATES & data["chat_template"].keys():
        refuse("chat_template", f"without {' and '.join(sorted(taken))}, which are ours to give")
    if not is_plain(data["chat_template"]):
        refuse("chat_template", "texts, numbers, true and false by name")
    try:
        cut = None if truncation is None else truncation_of(**truncation)
    except (TypeError, UserError):
        refuse("truncation", "{strategy: words, k: 25}, with words: [...] where they are not the usual ones")
    return Profile(
        data["system"],
        user,
        labels["different"],
        labels["same"],
        data["answer_prefix"],
        data["chat_template"],
        cut,
        tuple(data["unknown"]),
        data["second"],
    )


def truncation_of(strategy: str, k: int, words: list[str] | None = None) -> Truncation:
    """A profile's truncation. words: where they are not ours. Raises UserError for what is none."""
    if not isinstance(words, list | None):
        raise UserError(f"reasoning words should be a list, found {words!r}")
    return Truncation(strategy, k, None if words is None else checked((("words", word) for word in words), "words"))


def is_plain(value: dict) -> bool:
    """Whether names are texts and JSON can hold the values: no dates, no NaN."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def save(profile: Profile, path: str | Path) -> None:
    """Write a profile's YAML."""
    import yaml

    data = {
        "system": profile.system,
        "user": profile.user,
        "labels": {"different": profile.different, "same": profile.same},
        "answer_prefix": profile.answer_prefix,
        "chat_template": dict(profile.chat_template),
    }
    if profile.truncation:
        cut = profile.truncation
        data["truncation"] = {"strategy": cut.strategy, "k": cut.k} | ({"words": list(cut.words)} if cut.words else {})
    if profile.second is not None:
        data["second"] = profile.second
    if profile.unknown:
        data["unknown"] = list(profile.unknown)

    class Lines(yaml.SafeDumper):
        """Texts of several lines stand as such."""

    def text(dumper: yaml.SafeDumper, value: str):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Lines.add_representer(str, text)
    jsonl.write_text(path, yaml.dump(data, Dumper=Lines, sort_keys=False, allow_unicode=True, width=1000))


def of_rows(file: Path) -> Profile | None:
    """The profile that stage 02 wrote beside a file of training rows; None: there is none."""
    path = rows_profile(file)
    return load(path) if path.is_file() else None


def rows_profile(file: Path) -> Path:
    """Where the profile of a file of training rows lies."""
    return file.with_name(f"{file.name.partition('.jsonl')[0]}.{FILE}")


def beside(folder: str | Path) -> Profile | None:
    """The profile of the weights in a folder; of those that stage 03 trained without one, ours; None: not known."""
    folder = Path(folder)
    if (folder / FILE).is_file():
        return load(folder / FILE)
    return DEFAULT if trained_here(folder) else None


def trained_here(folder: Path) -> bool:
    """Whether stage 03 trained the weights in a folder, by its manifest."""
    try:
        return json.loads(manifest.manifest_path(folder).read_text())["stage"] == "train"
    except (OSError, ValueError, KeyError, TypeError):  # weights of others have no manifest of ours
        return False


def profile_of(model: str, given: str | Path | None = None, default: Profile = DEFAULT) -> Profile:
    """A judge's profile: the one beside its weights, the given one (--judge-profile), or the default.

    Raises UserError for a given one that is not as the one beside the weights.
    """
    own = beside(models.resolve(model).path)
    if given is None:
        return own or default
    profile = load(given)
    same_cut = own is None or None in (own.truncation, profile.truncation) or own.truncation == profile.truncation
    if own and not (own.version == profile.version and same_cut):
        raise UserError(
            f"{given}: is not the profile that {model} was trained with ({FILE} beside its weights, or ours): leave "
            "--judge-profile out"
        )
    return profile
