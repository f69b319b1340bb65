from common.backoff import Backoff


def test_backoff_doubles_up_to_a_limit_and_forgets_after_a_stable_run():
    backoff = Backoff(first=0.5, limit=30.0, stable=60.0)
    assert [backoff.after(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(60.0) == 0.5
    assert backoff.after(1.0) == 1.0
