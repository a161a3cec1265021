"""Work done ahead: in order, lazily, and without a thread that anyone waits for once its result is not wanted."""

import itertools
import threading

import pytest

from ditgta.data.ahead import map_ahead


def test_results_are_in_order_and_items_are_read_lazily():
    read = []
    items = (read.append(i) or i for i in itertools.count())
    results = map_ahead(lambda i: i * i, items, threads=3, ahead=5)
    assert [next(results) for _ in range(20)] == [i * i for i in range(20)]
    assert len(read) <= 20 + 5
    results.close()


def test_an_exception_is_raised_when_its_result_is_due():
    results = map_ahead(lambda i: 1 // (i - 2), range(5), threads=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_iterator_that_is_abandoned_waits_for_no_thread():
    """The collector of garbage may close it anywhere, also where a new thread holds the lock with which threads end."""
    begun, go_on = threading.Event(), threading.Event()

    def work(i: int) -> int:
        if i:
            begun.set()
            go_on.wait(60)
        return i

    results = map_ahead(work, range(3), threads=1, ahead=3)
    assert next(results) == 0 and begun.wait(60)
    closed = threading.Thread(target=results.close, daemon=True)
    closed.start()
    closed.join(20)
    waited = closed.is_alive()
    go_on.set()
    assert not waited
