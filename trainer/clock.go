package trainer

import "time"

// roundClock is the time since the round at hand began, over all processes that worked on
// it: it does not run while nobody trains.
type roundClock struct {
	spent time.Duration // by processes, and runs, before
	since time.Time     // zero: it does not run
	step  time.Duration // the last inner step took
}

// elapsed is how long the round has taken by now.
func (c *roundClock) elapsed(now time.Time) time.Duration {
	if c.since.IsZero() {
		return c.spent
	}
	return c.spent + now.Sub(c.since)
}

// begin starts the clock of another round, which has taken spent already. It goes on to
// stand still where it did.
func (c *roundClock) begin(now time.Time, spent time.Duration) {
	c.spent = spent
	if !c.since.IsZero() {
		c.since = now
	}
}

func (c *roundClock) run(now time.Time)  { c.since = now }
func (c *roundClock) stop(now time.Time) { c.spent, c.since = c.elapsed(now), time.Time{} }

// timeIsUp says that the inner phase has lasted InnerTime, to the nearest whole number of
// steps, and at least one: the round of a worker whose steps are slow is as long as that
// of the others, but for half a step.
func (t *Trainer) timeIsUp() bool {
	return t.cfg.InnerTime > 0 && t.pending.steps > 0 && t.clock.elapsed(t.hooks.Now())+t.clock.step/2 >= t.cfg.InnerTime
}

// roundTime is what a snapshot says of the clock: a worker that goes on from it must not take
// another step where this worker would not have.
func (t *Trainer) roundTime() time.Duration {
	elapsed := t.clock.elapsed(t.hooks.Now())
	if t.timeIsUp() {
		return max(elapsed, t.cfg.InnerTime)
	}
	return elapsed
}
