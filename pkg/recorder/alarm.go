package recorder

import "time"

// Retries after a failure wait from firstRetry on, each twice as long as the
// one before, up to lastRetry.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// alarm remembers that storing fails: since when, why, and when to try again.
// Its hooks are called once for each change, not for each failure.
type alarm struct {
	raised  func(at time.Time, err error)
	cleared func(since, at time.Time)

	err   error
	since time.Time
	next  time.Time
	delay time.Duration
}

// wait returns how long to leave the store in peace.
func (a *alarm) wait(now time.Time) time.Duration {
	if a.err == nil {
		return 0
	}
	return a.next.Sub(now)
}

// raise notes a failure and returns when to try again.
func (a *alarm) raise(now time.Time, err error) time.Duration {
	if a.err == nil {
		a.since, a.delay = now, firstRetry
		a.raised(now, err)
	} else {
		a.delay = min(2*a.delay, lastRetry)
	}
	a.err, a.next = err, now.Add(a.delay)
	return a.delay
}

// clear notes a success.
func (a *alarm) clear(now time.Time) {
	if a.err != nil {
		a.err = nil
		a.cleared(a.since, now)
	}
}
