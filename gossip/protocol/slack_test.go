package protocol

import (
	"errors"
	"testing"
	"time"
)

// closes has worker 0 of n start round 7 with a slack, hear others at the times after the start, and
// returns when its group closes and how many are in it.
func (k *clocked) closes(slack time.Duration, others map[int]time.Duration) (after time.Duration, members int) {
	k.t.Helper()
	began := k.now
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256, Slack: slack})
	for k.m.attempt == nil && k.m.active {
		for worker, at := range others {
			if k.now.Sub(began) == at {
				k.m.Receive(k.now, k.ids[worker], Envelope{Round: 7, Worker: worker}, ready{tokens: 1, weight: 1, length: 256})
			}
		}
		if k.m.attempt == nil {
			k.tick(time.Second)
		}
	}
	if !k.m.active {
		return k.now.Sub(began), 0
	}
	return k.now.Sub(began), len(k.m.attempt.group.members)
}

// Within the slack a straggler is waited for, until what is left is just enough for the transfer.
func TestSlackWaitsForStragglers(t *testing.T) {
	const slack, never = 4 * time.Minute, 24 * time.Hour
	for _, c := range []struct {
		name    string
		took    []time.Duration // the transfers before
		min     time.Duration   // GraceMin
		others  map[int]time.Duration
		after   time.Duration
		members int
	}{
		{"all come", nil, 0, map[int]time.Duration{1: 0, 2: time.Second, 3: time.Minute}, time.Minute, 4},
		{"nothing is known of transfers", nil, 0, map[int]time.Duration{1: 0, 2: 0, 3: never}, slack / 2, 3},
		{"transfers take 40 s", []time.Duration{40 * time.Second, 8 * time.Second}, 0, map[int]time.Duration{1: 0, 2: 0, 3: never}, slack - 50*time.Second, 3},
		{"only the last count", []time.Duration{time.Hour, 8, 40 * time.Second, 8, 8}, 0, map[int]time.Duration{1: 0, 2: 0, 3: never}, slack - 50*time.Second, 3},
		{"another was ready before", []time.Duration{40 * time.Second}, 0, map[int]time.Duration{1: -1, 2: 0, 3: never}, slack - time.Minute, 3},
		{"it is waited for beyond the slack", []time.Duration{40 * time.Second}, 10 * time.Second, map[int]time.Duration{1: 0, 2: slack - 45*time.Second, 3: never}, slack - 40*time.Second, 3},
		{"as few as may decide twice wait as ever", []time.Duration{40 * time.Second}, 10 * time.Second, map[int]time.Duration{1: slack - 45*time.Second, 2: never, 3: never, 4: never}, never, 0},
		{"no slack is left by a transfer", []time.Duration{slack}, 0, map[int]time.Duration{1: 0, 2: 0, 3: never}, 30 * time.Second, 3},
	} {
		n := 4
		if len(c.others) > 3 {
			n = 5
		}
		k := newClocked(t, n, RoundsConfig{GraceMin: c.min})
		for _, d := range c.took {
			k.m.transfers.note(d)
		}
		k.tick(time.Minute)
		if c.others[1] < 0 {
			k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Worker: 1}, ready{tokens: 1, weight: 1, length: 256})
			k.tick(10 * time.Second)
		}
		after, members := k.closes(slack, c.others)
		if c.after == never {
			if after < slack+10*time.Minute || members != 0 {
				t.Errorf("%s: closes after %v with %d members, want no group within the deadline", c.name, after, members)
			}
			continue
		}
		if after != c.after || members != c.members {
			t.Errorf("%s: closes after %v with %d members, want %v and %d", c.name, after, members, c.after, c.members)
		}
	}
}

// The deadline counts from when the result is due.
func TestSlackIsNoPartOfTheDeadline(t *testing.T) {
	for _, slack := range []time.Duration{0, 20 * time.Minute} {
		k := newClocked(t, 3, RoundsConfig{Quorum: 3})
		began := k.now
		k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256, Slack: slack})
		for k.m.active {
			k.tick(time.Second)
		}
		for _, a := range k.m.Take() {
			if a.Finish != nil && !errors.Is(a.Finish.Err, ErrDeadline) {
				t.Errorf("slack %v: ends with %v", slack, a.Finish.Err)
			}
		}
		if got := k.now.Sub(began); got != slack+k.m.Deadline {
			t.Errorf("slack %v: gives up after %v, want %v", slack, got, slack+k.m.Deadline)
		}
	}
}

// A coordinator that has a longer slack is not passed over in this worker's own.
func TestSlackLeavesTheCoordinatorItsTime(t *testing.T) {
	const slack = 4 * time.Minute
	k := newClocked(t, 3, RoundsConfig{})
	k.m.Worker, k.m.Self, k.m.own.worker, k.m.own.id = 2, k.ids[2], 2, k.ids[2]
	k.tick(time.Minute)
	began := k.now
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256, Slack: slack})
	for worker := range 2 {
		k.m.Receive(k.now, k.ids[worker], Envelope{Round: 7, Worker: worker}, ready{tokens: 1, weight: 1, length: 256})
	}
	for len(k.m.observed) == 0 {
		k.tick(time.Second)
	}
	if got, want := k.now.Sub(began), slack+2*k.m.Grace; got != want {
		t.Errorf("the coordinator is passed over after %v, want %v", got, want)
	}
}

// What a transfer took is measured from the group to the whole mean.
func TestTransfersAreMeasured(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	number := k.begins(1)
	k.tick(9 * time.Second)
	k.m.Complete(k.now, number, [32]byte{1})
	if got := k.m.transfers.reserve(time.Hour); got != 9*time.Second*5/4 {
		t.Errorf("after a transfer of 9 s %v are kept for the next", got)
	}
}
