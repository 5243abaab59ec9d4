"""Reasoning words: those that a trace is cut at. The paper names "wait", "thus" and "since" and does not list the rest.

Matched as whole words, in any case, outside fenced code blocks (truncation.py).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepprune.base.errors import UserError

REASONING_WORDS = tuple(
    (
        "wait thus since so therefore hence because but however alternatively actually hmm now then next "
        "first second finally let if suppose assume maybe perhaps check verify recall note consider "
        "instead again also"
    ).split()
)

# For traces in other languages, where the words cannot be taken for English ones (not French "car", German "falls").
OTHER_WORDS = {
    "German": (
        "warte denn daher deshalb deswegen folglich somit aber jedoch allerdings dann danach zunächst "
        "zuerst zweitens schließlich angenommen wenn vielleicht prüfe prüfen überprüfen beachte "
        "stattdessen außerdem nochmal jetzt"
    ),
    "French": (
        "attendons donc alors ainsi puisque parce mais cependant toutefois ensuite puis premièrement "
        "deuxièmement enfin finalement supposons vérifions rappelons notons considérons maintenant aussi"
    ),
    "Spanish": (
        "entonces luego así pues porque pero ahora después finalmente supongamos quizás comprobemos "
        "verifiquemos recordemos consideremos también además"
    ),
    "Portuguese": "então portanto porém contudo depois primeiro suponhamos talvez",
    "Italian": (
        "aspetta quindi dunque perciò poiché perché però tuttavia allora adesso infine supponiamo forse "
        "verifichiamo anche"
    ),
    "Russian": (
        "подожди подождите значит поэтому следовательно итак так потому поскольку ведь но однако теперь "
        "тогда затем потом сначала сперва наконец пусть если предположим допустим возможно проверим "
        "вспомним заметим рассмотрим также"
    ),
    "Turkish": "bekle yani dolayısıyla çünkü fakat ancak şimdi sonra önce eğer belki varsayalım ayrıca",
    "Dutch": ("dus daarom omdat echter eerst daarna vervolgens tenslotte misschien wacht controleer stel indien maar"),
    "Polish": ("więc zatem ponieważ jednak teraz potem następnie najpierw jeśli może sprawdźmy czekaj załóżmy także"),
    "Ukrainian": "отже тому але проте тепер потім спочатку якщо можливо перевіримо зачекай припустимо також",
    "Hindi": "इसलिए अतः क्योंकि लेकिन परंतु फिर अब पहले अगर यदि शायद रुको मान जाँच",
    "Arabic": "انتظر إذن إذا لذلك لأن لكن ولكن الآن ثم أولا ثانيا أخيرا ربما لنفترض لنتحقق أيضا",
}

# Languages that are written without spaces, or inflect by endings: matched wherever they stand.
UNSPACED_WORDS = {
    "Chinese": (
        "等等 等一下 稍等 因此 所以 因为 因為 由于 由於 于是 於是 但 然而 不过 不過 或者 其实 其實 实际上 "
        "实际 嗯 现在 現在 那么 那麼 然后 然後 接下来 接下來 首先 其次 最后 最後 如果 假设 假設 假如 也许 "
        "也許 或许 或許 可能 检查 檢查 验证 驗證 回忆 回憶 注意 考虑 考慮 另外 此外 再次 重新 同样"
    ),
    "Japanese": (
        "待って ちょっと よって したがって だから ゆえに なぜなら しかし ただし 実際 さて そして それから "
        "次に まず 最初 最後 もし 仮に 仮定 おそらく たぶん 確認 検証 思い出 考え 代わり もう一度 また"
    ),
    "Thai": "ดังนั้น เพราะ แต่ จากนั้น ต่อไป ก่อนอื่น ถ้า สมมติ บางที ตรวจสอบ รอก่อน",
    "Korean": (
        "잠깐 잠시만 따라서 그러므로 그래서 그러니 왜냐하면 때문 하지만 그러나 그런데 사실 이제 그러면 "
        "그럼 다음 먼저 우선 둘째 마지막으로 만약 가정 아마 혹시 확인 검증 기억 참고 고려 대신 다시 또한"
    ),
}

RUN = re.compile(r"[\w\u0900-\u0e7f]+")  # the range: letters and vowel signs of India and Thailand

# Letters of languages that are written without spaces, or inflect by endings (Chinese, Japanese, Thai, Korean).
_WITHOUT_SPACES = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """Reasoning words: matched whole, in any case, and those of languages without spaces wherever they stand."""

    whole: frozenset[str]
    anywhere: re.Pattern | None

    @classmethod
    def of(cls, whole: Iterable[str], anywhere: Iterable[str]) -> Lexicon:
        longest_first = sorted(set(anywhere), key=lambda word: (-len(word), word))
        pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        return cls(frozenset(word.casefold() for word in whole), pattern)

    def ends(self, run: re.Match) -> list[int]:
        """Where the reasoning words of a run of letters end."""
        word = run[0]
        if (word.lower() if word.isascii() else word.casefold()) in self.whole:
            return [run.end()]
        if word.isascii() or self.anywhere is None:
            return []
        return [run.start() + match.end() for match in self.anywhere.finditer(word)]


@functools.cache
def lexicon(words: tuple[str, ...] | None = None) -> Lexicon:
    """The words of a list; None: ours."""
    if words is None:
        others = [word for line in OTHER_WORDS.values() for word in line.split()]
        anywhere = [word for line in UNSPACED_WORDS.values() for word in line.split()]
        return Lexicon.of([*REASONING_WORDS, *others], anywhere)
    anywhere = [word for word in words if _WITHOUT_SPACES.search(word)]
    return Lexicon.of(set(words) - set(anywhere), anywhere)


def read_words(path: str | Path) -> tuple[str, ...]:
    """A list of reasoning words: UTF-8, one a line; empty lines and those that begin with # are left out.

    Sorted, each once, in small letters. Raises UserError naming file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (a list of reasoning words, one a line)") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason})") from error
    words = [(f"{path}:{number}", line.strip()) for number, line in enumerate(lines, 1)]
    return checked([(where, word) for where, word in words if word and not word.startswith("#")], str(path))


def checked(words: Iterable[tuple[str, Any]], where: str) -> tuple[str, ...]:
    """Words, each with its place: sorted, each once, in small letters, accents in one character with their letter.

    Raises UserError naming the place (where: of the whole list) for what is no word, and for none.
    """
    result = set()
    for place, word in words:
        whole = unicodedata.normalize("NFC", word) if isinstance(word, str) else ""
        if not RUN.fullmatch(whole):
            raise UserError(f"{place}: expected one word of letters alone, found {word!r}")
        result.add(whole.casefold())
    if not result:
        raise UserError(f"{where}: no reasoning words")
    return tuple(sorted(result))
