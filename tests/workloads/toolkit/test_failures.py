"""What a failure says of a script that ran under a launcher."""

from __future__ import annotations

from clary.workloads.toolkit.failures import error_message

TRACEBACK = "Traceback (most recent call last):\n"


def test_the_error_of_a_process_is_told_and_not_that_torchrun_lost_it() -> None:
    stderr = (
        f'{TRACEBACK}  File "train.py", line 3, in <module>\n    boom()\nValueError: no rows\n'
        "E1122 13:14:00.700000 5 api.py:1001] failed (exitcode: 1)\n"
        f'{TRACEBACK}  File "run.py", line 9, in main\n    run(args)\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntrain.py FAILED"
    )
    expected = 'ValueError: no rows\n  File "train.py", line 3, in <module>\n    boom()'
    assert error_message(stderr) == expected


def test_one_marked_rank_is_told_without_the_others_and_without_the_launchers_frames() -> None:
    stderr = (
        "[1,1]<stderr>: Traceback (most recent call last):\n"
        '[1,1]<stderr>:   File "<frozen runpy>", line 88, in _run_code\n'
        "[1,0]<stderr>: Traceback (most recent call last):\n"
        '[1,1]<stderr>:   File "rings.py", line 5, in <module>\n'
        "[1,0]<stderr>: KeyError: 7\n"
        "[1,1]<stderr>: ValueError: boom\n"
        "[1,1]<stderr>: ------------------------------\n"
        "[1,1]<stderr>: MPI_ABORT was invoked on rank 1\n"
    )
    assert error_message(stderr) == 'ValueError: boom\n  File "rings.py", line 5, in <module>'


def test_the_marks_that_pytorch_puts_before_a_traceback_are_taken_off() -> None:
    stderr = (
        f'{TRACEBACK}  File "ddp.py", line 1, in <module>\nOSError: gone\n'
        f'[rank1]: {TRACEBACK}[rank1]:   File "ddp.py", line 1, in <module>\n[rank1]: OSError: gone'
    )
    assert error_message(stderr) == 'OSError: gone\n  File "ddp.py", line 1, in <module>'
