package protocol

import (
	"testing"
	"time"
)

// others lists the members of a group without worker 0.
func (k *clocked) others() group {
	g := group{source: 1}
	for i, id := range k.ids[1:] {
		g.members = append(g.members, GroupMember{ID: id, Worker: i + 1, Weight: 1})
	}
	return g
}

// A worker that comes when the others have long been ready does not break up the attempt that
// they may be in, though it would be their coordinator. It waits as long as it hears of that.
func TestLateWorkerWaitsForTheOthersAttempt(t *testing.T) {
	const grace = 30 * time.Second
	for _, c := range []struct {
		name    string
		ready   time.Duration // the others, before this worker
		hears   time.Duration // of their attempt: until then, every half grace; 0: not at all
		waits   time.Duration // again: a member is ready after the attempt; 0: it is not
		closes  time.Duration
		members int
	}{
		{"in time", grace - time.Second, 0, 0, 0, 3},
		{"late, and hears nothing", grace, 0, 0, grace / 2, 3},
		{"late, and hears of an attempt", 2 * grace, 3 * grace, 0, 4 * grace, 3},
		{"late, and the attempt fails", 2 * grace, 3 * grace, 2*grace + time.Second, 2*grace + time.Second, 3},
	} {
		k := newClocked(t, 3, RoundsConfig{})
		say := func(worker int, last uint64) {
			k.m.Receive(k.now, k.ids[worker], Envelope{Round: 7, Worker: worker}, ready{tokens: 1, weight: 1, length: 256, last: last})
		}
		say(1, 0)
		say(2, 0)
		k.tick(c.ready)
		began, number := k.now, attemptNumber(1, 1, 9)
		k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
		for after := time.Duration(0); k.m.attempt == nil && after < 10*grace; after += time.Second {
			k.now = began.Add(after)
			if c.hears > 0 && after <= c.hears && after%(grace/2) == 0 {
				k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: number, Worker: 1}, k.others())
			}
			if c.waits > 0 && after >= c.waits {
				say(1, number)
				say(2, number)
			}
			k.m.Tick(k.now)
		}
		if a := k.m.attempt; a == nil || len(a.group.members) != c.members || k.now.Sub(began) != c.closes {
			t.Errorf("%s: closed after %v, want %v", c.name, k.now.Sub(began), c.closes)
		}
		if len(k.m.observed) > 0 {
			t.Errorf("%s: blames %v", c.name, k.m.Rejected())
		}
	}
}

// A coordinator tells who waits of the attempt that it is not in.
func TestCoordinatorTellsTheLate(t *testing.T) {
	k := newClocked(t, 4, RoundsConfig{})
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	say := func(worker int) (told bool) {
		k.m.Receive(k.now, k.ids[worker], Envelope{Round: 7, Worker: worker}, ready{tokens: 1, weight: 1, length: 256})
		for _, a := range k.m.Take() {
			if a.Send != nil && a.Send.To == k.ids[worker] {
				g, ok := a.Send.Msg.(group)
				told = told || ok && len(g.members) == 3
			}
		}
		return told
	}
	say(1)
	say(2)
	k.tick(30 * time.Second)
	k.m.Take()
	if !say(3) {
		t.Error("a late worker is not told")
	}
}
