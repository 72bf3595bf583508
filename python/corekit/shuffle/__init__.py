"""Shuffle the records of files that do not fit in memory.

The order is a published formula: record i of input j has as its key word i of
``numpy.random.Philox(key=seed, counter=[0, 0, j, epoch]).random_raw(n_j)``, where the
epoch is 0 unless several are asked for, and the output is all records, sorted by key
(equal keys by input, then by position). So the order is uniformly random, and the output
depends on the inputs and the seed only: never on the memory limit, the number of threads
or the machine.

Table of contents
-----------------
`shuffle_files`
    Shuffle files together, into one file or a set of them.
`shuffle_aligned`
    Shuffle files of equally many records in step, each into its own output.
`plan`
    What `shuffle_files` would do.
`ShuffledReader`, `RecordBatch`
    Shuffled records as a stream into training, without an output file.
`permutation`
    The order itself.
`ShuffleReport`, `ShuffledFile`, `ShufflePlan`
    What they return.
"""

from corekit.shuffle._aligned import shuffle_aligned
from corekit.shuffle._batch import RecordBatch
from corekit.shuffle._files import plan, shuffle_files
from corekit.shuffle._order import permutation
from corekit.shuffle._plan import ShufflePlan
from corekit.shuffle._reader import ShuffledReader
from corekit.shuffle._report import ShuffledFile, ShuffleReport

__all__ = [
    "RecordBatch",
    "ShufflePlan",
    "ShuffleReport",
    "ShuffledFile",
    "ShuffledReader",
    "permutation",
    "plan",
    "shuffle_aligned",
    "shuffle_files",
]

# A pickle names a class by its module, and help() shows it: the public one.
for _name in __all__:
    globals()[_name].__module__ = __name__
