package protocol

import (
	"errors"
	"strings"
	"testing"
	"time"

	"loco/mesh"
)

// begins has worker self of three enter an attempt that worker 0 coordinates, and returns
// its number. The actions are taken.
func (k *clocked) begins(self int) uint64 {
	k.t.Helper()
	k.m.Worker, k.m.Self, k.m.own.worker, k.m.own.id = self, k.ids[self], self, k.ids[self]
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	var g group
	for i, id := range k.ids {
		g.members = append(g.members, GroupMember{ID: id, Worker: i, Weight: 1})
		if self == 0 && i > 0 {
			k.m.Receive(k.now, id, Envelope{Round: 7, Worker: i}, ready{tokens: 1, weight: 1, length: 256})
		}
	}
	if self > 0 {
		k.m.Receive(k.now, k.ids[0], Envelope{Round: 7, Attempt: attemptNumber(1, 0, 9)}, g)
	}
	if k.m.attempt == nil {
		k.t.Fatal("no group")
	}
	k.m.Take()
	return k.m.attempt.number
}

// blames is how often this worker has said of a peer that it failed the attempt, since Take.
func (k *clocked) blames(who mesh.ID) (n int) {
	for _, a := range k.m.Take() {
		if a.Send != nil {
			if f, ok := a.Send.Msg.(failed); ok && f.who == who {
				n++
			}
		}
	}
	return n
}

// A transfer may take longer than half of the deadline: whoever holds its result first then
// gives the others time, and as much as there is to those who say that they are at work.
func TestLongAttemptsBlameNobodyAtWork(t *testing.T) {
	const deadline, grace = 10 * time.Minute, 30 * time.Second
	for _, c := range []struct {
		name     string
		self     int
		complete time.Duration // since the group closed
		works    bool          // the other says so every half grace
		until    time.Duration // then it is blamed
	}{
		{"early, a silent member", 0, time.Minute, false, deadline / 2},
		{"late, a silent member", 0, deadline * 51 / 100, false, deadline*51/100 + grace},
		{"early, a member at work", 0, time.Minute, true, deadline - 2*grace},
		{"late, a member at work", 0, deadline * 51 / 100, true, deadline - 2*grace},
		{"early, a silent coordinator", 1, time.Minute, false, deadline / 2},
		{"late, a silent coordinator", 1, deadline * 51 / 100, false, deadline*51/100 + 2*grace},
		{"late, a coordinator at work", 1, deadline * 51 / 100, true, deadline - grace},
	} {
		k := newClocked(t, 3, RoundsConfig{})
		number, began := k.begins(c.self), k.now
		other, msg := k.ids[0], Message(done{})
		if c.self == 0 {
			other, msg = k.ids[2], want{}
		}
		for after := time.Duration(0); after <= c.until; after += time.Second {
			k.now = began.Add(after)
			if after == c.complete {
				k.m.Complete(k.now, number, [32]byte{1})
				if c.self == 0 {
					k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: number, Worker: 1}, done{[32]byte{1}})
				}
			}
			if c.works && after%(grace/2) == 0 {
				k.m.Receive(k.now, other, Envelope{Round: 7, Attempt: number}, msg)
			}
			k.m.Tick(k.now)
			if n := k.blames(other); (n > 0) != (after >= c.until) {
				t.Errorf("%s: blamed %d times after %v, want that after %v", c.name, n, after, c.until)
				break
			}
		}
	}
}

// A coordinator answers a Done that is said again: who says it sees that the attempt is under way.
func TestCoordinatorAnswersARepeatedDone(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	number := k.begins(0)
	for said := range 3 {
		k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: number, Worker: 1}, done{[32]byte{1}})
		answers := 0
		for _, a := range k.m.Take() {
			if _, ok := a.Send.Msg.(done); ok && a.Send.To == k.ids[1] && a.Send.Env.Attempt == number {
				answers++
			}
		}
		if answers != min(said, 1) {
			t.Errorf("Done number %d has %d answers", said+1, answers)
		}
	}
}

// A joiner that says again and again that it comes, and does not, is waited for half as long
// each round. Once it has come it is waited for like anybody.
func TestJoinerThatNeverComesHoldsUpFewRounds(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	joiner := k.ids[2]
	view := func(ready bool) {
		k.m.View(k.now, []mesh.Member{
			{ID: k.ids[0], State: mesh.Alive, Status: mesh.Status{Ready: true}},
			{ID: k.ids[1], State: mesh.Alive, Status: mesh.Status{Worker: 1, Ready: true}},
			{ID: joiner, State: mesh.Joining, Status: mesh.Status{Worker: 2, Ready: ready}},
		})
	}
	waits := func(round uint64) time.Duration {
		k.m.Expect(joiner, round+1)
		k.m.Start(k.now, round, Start{Tokens: float64(round), Weight: 1, Length: 256})
		k.m.Receive(k.now, k.ids[1], Envelope{Round: round, Worker: 1}, ready{tokens: float64(round), weight: 1, length: 256})
		began := k.now
		for k.m.attempt == nil && k.now.Sub(began) < time.Minute {
			k.m.Expect(joiner, round+1)
			k.now = k.now.Add(250 * time.Millisecond)
			k.m.Tick(k.now)
		}
		waited := k.now.Sub(began)
		number := k.m.attempt.number
		k.m.Complete(k.now, number, [32]byte{1})
		k.m.Receive(k.now, k.ids[1], Envelope{Round: round, Attempt: number, Worker: 1}, done{[32]byte{1}})
		return waited
	}
	view(false)
	for round, want := range []time.Duration{30 * time.Second, 15 * time.Second, 7500 * time.Millisecond, 3750 * time.Millisecond, 3750 * time.Millisecond} {
		if got := waits(uint64(round)); got != want {
			t.Errorf("round %d waited %v for a joiner that did not come, want %v", round, got, want)
		}
	}
	k.m.Receive(k.now, joiner, Envelope{Round: 4, Worker: 2}, ready{tokens: 4, weight: 1, length: 256})
	if got := waits(5); got != 30*time.Second {
		t.Errorf("waited %v for one that had come, want all of the grace period", got)
	}
}

// Workers whose deadlines are apart would end each other's attempts in turn: who has little of its
// own left begins anew with the one that gave up.
func TestDeadlinesComeTogether(t *testing.T) {
	for after, want := range map[time.Duration]bool{4 * time.Minute: false, 6 * time.Minute: true} {
		k := newClocked(t, 3, RoundsConfig{})
		k.begins(1)
		k.tick(after)
		k.m.Receive(k.now, k.ids[2], Envelope{Round: 7, Worker: 2}, withdraw{})
		ended := false
		for _, a := range k.m.Take() {
			ended = ended || a.Finish != nil && errors.Is(a.Finish.Err, ErrDeadline)
		}
		if ended != want {
			t.Errorf("after %v of 10 minutes a member withdraws: gives up %v", after, ended)
		}
	}
}

// The error at the deadline calls those who are missing by their numbers, as all messages do.
func TestDeadlineNamesTheMissing(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	if got, want := k.m.waitingFor(), "1 workers are ready, missing are worker 1 (w1), worker 2 (w2)"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
