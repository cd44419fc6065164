package clustertest

import (
	"slices"
	"time"
)

// outage is a time in which a link did not work in one direction, or a process did not (to is
// nobody).
type outage struct {
	since, until time.Time
	from, to     int
}

const nobody = -1

// cuts, stands and ends note what goes wrong for a while from now on.
func (c *checker) cuts(from, to int, lasts time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outages = append(c.outages, outage{time.Now(), time.Now().Add(lasts), from, to})
}

func (c *checker) stands(i int, lasts time.Duration) {
	c.cuts(i, nobody, lasts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.still[i] += lasts
}

func (c *checker) down(i int, lasts time.Duration) { c.cuts(i, nobody, lasts) }

// apart says that two that took different results for a round could not reach each other for a
// while: a link between their groups was cut, or one of the two was paused or gone after it
// decided. That it had been paused before is no excuse. The rule is that of gossip/protosim.
func (c *checker) apart(a, b decided) bool {
	since := a.since
	if b.since.Before(since) {
		since = b.since
	}
	since = since.Add(-c.w.params.detection - 2*c.w.params.grace)
	for _, o := range c.outages {
		switch {
		case o.until.Before(since):
		case o.to != nobody:
			if a.of(o.from) && b.of(o.to) || a.of(o.to) && b.of(o.from) {
				return true
			}
		case a.by(o.from) && !c.first(a).After(o.until), b.by(o.from) && !c.first(b).After(o.until):
			return true
		}
	}
	return false
}

// first is when the first process decided as d did. c.mu is held.
func (c *checker) first(d decided) time.Time {
	at := d.at
	for _, o := range c.commit[d.place] {
		if o.result == d.result && o.at.Before(at) {
			at = o.at
		}
	}
	return at
}

// of says that a worker decided, or is in the mean.
func (d *decided) of(i int) bool { return d.p.index == i || slices.Contains(d.members, i) }

// by says that a worker decided, or is one of those whose result the worker that decided took
// over.
func (d *decided) by(i int) bool {
	return d.p.index == i || !slices.Contains(d.members, d.p.index) && slices.Contains(d.members, i)
}
