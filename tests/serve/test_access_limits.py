"""A client gets what its limits say to the token, whatever the order of its requests."""

from unison.serve.access.limits import Allotment, Bucket, Limit


def test_a_bucket_fills_by_its_capacity_each_minute_and_never_beyond():
    bucket = Bucket(120.0, 0.0, at=10.0)
    assert bucket.now(10.5).level == 1.0
    assert bucket.now(40.0).level == 60.0
    assert bucket.now(70.0).level == 120.0
    assert bucket.now(10_000.0).level == 120.0
    assert bucket.now(3.0) == bucket, "a clock that goes back neither gives nor takes"


def test_a_bucket_says_how_long_until_it_holds_so_much():
    bucket = Bucket(30.0, -15.0, at=0.0)
    assert bucket.until(0.0) == 30.0
    assert bucket.until(30.0) == 90.0
    assert bucket.until(-20.0) == 0.0


def test_a_minutes_requests_may_come_at_once_and_the_next_when_one_has_flowed_in():
    allotment, limit = Allotment(), Limit(requests_per_minute=4)
    for left in (3, 2, 1, 0):
        verdict = allotment.enter("ann", limit, 100.0)
        assert verdict.refused is None
        assert verdict.headers["x-ratelimit-limit-requests"] == "4"
        assert verdict.headers["x-ratelimit-remaining-requests"] == str(left)
        assert verdict.headers["x-ratelimit-reset-requests"] == f"{15.0 * (4 - left):.3f}s"
    verdict = allotment.enter("ann", limit, 107.5)
    assert verdict.wait == 7.5
    assert "4 requests per minute" in str(verdict.refused)
    assert allotment.enter("ann", limit, 115.0).refused is None
    assert allotment.enter("ann", limit, 115.0).wait == 15.0


def test_one_client_does_not_use_up_anothers_allotment():
    allotment, limit = Allotment(), Limit(requests_per_minute=1)
    assert allotment.enter("ann", limit, 0.0).refused is None
    assert allotment.enter("ann", limit, 0.0).refused is not None
    assert allotment.enter("bob", limit, 0.0).refused is None


def test_tokens_are_paid_for_when_they_are_written_and_debt_keeps_the_next_request_waiting():
    allotment, limit = Allotment(), Limit(tokens_per_minute=60)
    assert allotment.enter("ann", limit, 0.0).refused is None
    assert allotment.enter("ann", limit, 0.0).refused is None, "nothing was written yet"
    allotment.leave("ann", 50, 0.0)
    allotment.leave("ann", 30, 0.0)  # 20 more than there were
    verdict = allotment.enter("ann", limit, 0.0)
    assert verdict.wait == 21.0
    assert verdict.headers["x-ratelimit-remaining-tokens"] == "0"
    assert allotment.enter("ann", limit, 20.0).wait == 1.0
    verdict = allotment.enter("ann", limit, 21.0)
    assert verdict.refused is None
    assert verdict.headers["x-ratelimit-remaining-tokens"] == "1"
    assert verdict.headers["x-ratelimit-reset-tokens"] == "59.000s"


def test_over_a_long_time_a_client_gets_exactly_its_tokens_a_minute():
    allotment, limit, written = Allotment(), Limit(tokens_per_minute=600), 0
    for second in range(600):  # ten minutes of asking for 64 tokens each second
        if allotment.enter("ann", limit, float(second)).refused is None:
            allotment.leave("ann", 64, float(second))
            written += 64
    assert 6_000 <= written <= 6_000 + 600 + 64, "ten minutes' worth, and one bucket to begin with"


def test_so_many_requests_run_at_once_and_a_refused_one_costs_nothing():
    allotment, limit = Allotment(), Limit(requests_per_minute=10, concurrent=2)
    assert allotment.enter("ann", limit, 0.0).refused is None
    assert allotment.enter("ann", limit, 0.0).refused is None
    verdict = allotment.enter("ann", limit, 0.0)
    assert "2 may" in str(verdict.refused)
    assert verdict.headers["x-ratelimit-remaining-requests"] == "8"
    allotment.leave("ann", 0, 1.0)
    assert allotment.enter("ann", limit, 1.0).refused is None


def test_a_limit_that_is_changed_keeps_what_was_used():
    allotment = Allotment()
    for _ in range(6):
        assert allotment.enter("ann", Limit(requests_per_minute=8), 0.0).refused is None
    assert allotment.enter("ann", Limit(requests_per_minute=6), 0.0).refused is not None
    verdict = allotment.enter("ann", Limit(requests_per_minute=12), 0.0)
    assert verdict.headers["x-ratelimit-remaining-requests"] == "5"
