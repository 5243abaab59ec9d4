"""Final answers: finding the one that a trace states, and telling whether two are the same.

No answer (None) means *unknown*, which is never the same as anything. Finding: extraction.py on top of cues.py,
letters.py, mathematics.py and readers.py. Comparing: equality.py on top of spelling.py, units.py, numbers.py and
math_worker.py. Both stand on latex.py, decoration.py, characters.py and sentences.py.
"""

from deepprune.data.answers.equality import Classes, classes, majority, normalise, readable, right_class, same
from deepprune.data.answers.extraction import extract
from deepprune.data.answers.latex import last_boxed

__all__ = ["Classes", "classes", "extract", "last_boxed", "majority", "normalise", "readable", "right_class", "same"]
