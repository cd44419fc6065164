package protocol

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"loco/mesh"
)

// clocked is a machine among n workers that start every round together but for one.
type clocked struct {
	t   *testing.T
	m   *Rounds
	now time.Time
	ids []mesh.ID
}

func newClocked(t *testing.T, n int, c RoundsConfig) *clocked {
	t.Helper()
	c.Self, c.Deadline, c.Grace = "w0", 10*time.Minute, 30*time.Second
	k := &clocked{t: t, m: NewRounds(c), now: time.Unix(1e6, 0)}
	var members []mesh.Member
	for i := range n {
		id := mesh.ID(fmt.Sprintf("w%d", i))
		k.ids = append(k.ids, id)
		members = append(members, mesh.Member{ID: id, State: mesh.Alive, Status: mesh.Status{Worker: i, Ready: true}})
	}
	k.m.View(k.now, members)
	return k
}

// round plays a round in which the last worker is late by some time, and returns how long
// the group waited, and whether it was in it. All others need a minute.
func (k *clocked) round(round uint64, late time.Duration) (waited time.Duration, in bool) {
	k.t.Helper()
	k.tick(time.Minute)
	last := k.ids[len(k.ids)-1]
	digest := [32]byte{byte(round), byte(round >> 8)}
	k.m.Start(k.now, round, Start{Digest: digest, Tokens: float64(round), Weight: 1, Length: 256})
	say := func(id mesh.ID, worker int) {
		k.m.Receive(k.now, id, Envelope{Round: round, Worker: worker}, ready{digest: digest, tokens: float64(round), weight: 1, length: 256})
	}
	for i, id := range k.ids[1 : len(k.ids)-1] {
		say(id, i+1)
	}
	half := k.now
	for k.m.attempt == nil {
		if k.now.Sub(half) >= late && late >= 0 {
			say(last, len(k.ids)-1)
			late = -1
			continue
		}
		if k.now.Sub(half) > time.Minute {
			k.t.Fatalf("round %d: no group after a minute", round)
		}
		k.now = k.now.Add(100 * time.Millisecond)
		k.m.Tick(k.now)
	}
	waited = k.now.Sub(half)
	a := k.m.attempt
	in = a.has(last)
	k.m.Complete(k.now, a.number, [32]byte{1})
	for _, g := range a.group.members[1:] {
		k.m.Receive(k.now, g.ID, Envelope{Round: round, Attempt: a.number, Worker: g.Worker}, done{[32]byte{1}})
	}
	finished := false
	for _, act := range k.m.Take() {
		finished = finished || act.Finish != nil && act.Finish.Result != nil
	}
	if !finished {
		k.t.Fatalf("round %d was not committed", round)
	}
	if !in { // it hears of the commit, and says that it is ready
		say(last, len(k.ids)-1)
	}
	return waited, in
}

// tick lets time pass without seeming to stand still.
func (k *clocked) tick(d time.Duration) {
	for end := k.now.Add(d); k.now.Before(end); {
		k.now = k.now.Add(time.Second)
		k.m.Tick(k.now)
	}
}

// Until something is known of a peer it is waited for as long as Grace.
func TestGraceIsWholeWithoutObservations(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: time.Second})
	for round := range uint64(paceMin) {
		if waited, in := k.round(round, time.Hour); in || waited != 30*time.Second {
			t.Errorf("round %d: waited %v, in the group %v", round, waited, in)
		}
	}
	if waited, _ := k.round(paceMin, time.Hour); waited != 0 {
		t.Errorf("waited %v for a peer that never came in time", waited)
	}
	if late := k.m.Late(); !slices.Equal(late, []Late{{Worker: 4}}) {
		t.Errorf("late are %v", late)
	}
}

// A peer that is always a little late is waited for as long as it takes, and hardly
// longer when it does not come.
func TestGraceIsMedianAndDeviations(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: time.Second})
	for round, late := range []time.Duration{4, 5, 5, 6, 4, 5, 6, 5} {
		if waited, in := k.round(uint64(round), late*time.Second); !in || waited != late*time.Second {
			t.Fatalf("round %d: waited %v, in the group %v", round, waited, in)
		}
	}
	if len(k.m.Late()) > 0 {
		t.Errorf("%v are late: 5 s of a minute are worth waiting for", k.m.Late())
	}
	// The median is 5 s, the mean deviation 0.5 s.
	if waited, in := k.round(8, time.Hour); in || waited != 7*time.Second {
		t.Errorf("waited %v, in the group %v, want 7 s", waited, in)
	}
}

// Nobody is waited for shorter than GraceMin who is mostly in time, and nobody longer
// than Grace.
func TestGraceHasAFloorAndACap(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: 7 * time.Second})
	for round := range uint64(8) {
		k.round(round, 0)
	}
	if waited, in := k.round(8, time.Hour); in || waited != 7*time.Second {
		t.Errorf("waited %v, in the group %v, want the floor", waited, in)
	}
	k.m.paces[k.ids[4]] = &pace{n: 3, late: [paceWindow]time.Duration{0, 10 * time.Second, 25 * time.Second}}
	if due := k.m.lateness(k.ids[4]); due != 30*time.Second {
		t.Errorf("due in %v, want the cap", due)
	}
}

// What waiting is worth: with five workers a quarter of the round's length.
func TestGraceIsWhatAContributionIsWorth(t *testing.T) {
	for late, named := range map[time.Duration]bool{12 * time.Second: false, 20 * time.Second: true} {
		k := newClocked(t, 5, RoundsConfig{GraceMin: time.Second})
		for round := range uint64(6) {
			k.round(round, late)
		}
		if got := len(k.m.Late()) == 1; got != named {
			t.Errorf("late by %v: named %v, want %v", late, got, named)
		}
		if by := k.m.Late(); named && by[0].By != late {
			t.Errorf("late by %v, want %v", by[0].By, late)
		}
	}
}

// Without a floor below Grace nothing is learnt.
func TestGraceIsFixedWhereTheFloorIsTheCap(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{})
	for round := range uint64(6) {
		if waited, _ := k.round(round, 40*time.Second); waited != 30*time.Second {
			t.Errorf("round %d: waited %v", round, waited)
		}
	}
	if len(k.m.Late()) > 0 {
		t.Errorf("%v are late", k.m.Late())
	}
}

// A late peer is waited for once in 16 rounds, and when it comes then it is not late any
// more.
func TestLatePeerIsTriedAgain(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: 2 * time.Second})
	waits := 0
	for round := range uint64(40) {
		late := 29 * time.Second // worth waiting only in the beginning
		if round >= 30 {
			late = time.Second
		}
		waited, _ := k.round(round, late)
		if round > 3 && round < 30 && waited > 0 {
			waits++
			if waited != 2*time.Second || (round+4)%16 != 15 {
				t.Errorf("round %d: waited %v", round, waited)
			}
		}
	}
	if waits != 2 { // rounds 11 and 27
		t.Errorf("tried again %d times", waits)
	}
	if _, in := k.round(40, time.Second); in {
		t.Error("waited for before its turn")
	}
	for round := uint64(41); round < 50; round++ {
		if _, in := k.round(round, time.Second); in != (round >= 43) {
			t.Errorf("round %d: in the group %v", round, in)
		}
	}
}

// In a longer cycle a late peer is waited for in its turn, which tells nothing of its
// pace; it is told by Awaited, once half of the live are ready.
func TestTurnsInALongerCycle(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: 2 * time.Second, SlowCycle: 4})
	for round := range uint64(24) {
		late, turn := 90*time.Second, (round+4)%4 == 3
		if turn {
			late = 3 * time.Second
		}
		waited, in := k.round(round, late)
		if round > 4 && (in != turn || turn != (waited == 3*time.Second) || !turn && waited > 0) {
			t.Errorf("round %d: waited %v, in the group %v", round, waited, in)
		}
	}
	if len(k.m.Late()) != 1 {
		t.Errorf("late are %v", k.m.Late())
	}
}

func TestAwaited(t *testing.T) {
	k := newClocked(t, 5, RoundsConfig{GraceMin: 2 * time.Second, SlowCycle: 4})
	say := func(worker int, round uint64) {
		k.m.Receive(k.now, k.ids[worker], Envelope{Round: round, Worker: worker}, ready{tokens: 1, weight: 1, length: 256})
	}
	say(1, 3)
	say(2, 3)
	if k.m.Awaited(3) {
		t.Error("two of five are ready")
	}
	say(3, 2) // in the round before
	if k.m.Awaited(3) {
		t.Error("two of five are ready, and one in another round")
	}
	say(3, 3)
	for round := range uint64(8) {
		if got, want := k.m.Awaited(round), round == 3; got != want {
			t.Errorf("round %d: awaited %v", round, got)
		}
	}
	k.m.SlowCycle = 1
	if k.m.Awaited(3) {
		t.Error("awaited though there is no cycle")
	}
}

// What is learnt of a peer ends with its process, and with its place in the view.
func TestPaceIsForgotten(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{GraceMin: time.Second})
	for round := range uint64(4) {
		k.round(round, 2*time.Second)
	}
	if len(k.m.paces) != 2 {
		t.Fatalf("%d peers are known", len(k.m.paces))
	}
	k.m.View(k.now, []mesh.Member{{ID: "w0", State: mesh.Alive}, {ID: "w1", State: mesh.Dead}})
	if len(k.m.paces) != 0 {
		t.Errorf("%d peers are known that are gone", len(k.m.paces))
	}
}

// Of two workers that hold each other to be late only the lower goes on alone at once:
// else both might decide the round.
func TestOnlyMostGoOnWithoutTheLate(t *testing.T) {
	late := pace{n: paceWindow, slow: true, late: [paceWindow]time.Duration(slices.Repeat([]time.Duration{missed}, paceWindow))}
	for self, want := range []time.Duration{0, 30 * time.Second} {
		k := newClocked(t, 2, RoundsConfig{GraceMin: time.Second})
		k.m.Worker, k.m.Self = self, k.ids[self]
		k.m.own.worker, k.m.own.id = self, k.ids[self]
		known := late
		k.m.paces[k.ids[1-self]] = &known
		k.m.Start(k.now, 4, Start{Tokens: 1, Weight: 1, Length: 256})
		began := k.now
		for k.m.active && k.now.Sub(began) < time.Minute {
			k.now = k.now.Add(time.Second)
			k.m.Tick(k.now)
			if a := k.m.attempt; a != nil {
				k.m.Complete(k.now, a.number, [32]byte{1})
			}
		}
		if got := k.m.WaitEnd().Sub(began); got != want {
			t.Errorf("worker %d waited %v for one that it holds to be late, want %v", self, got, want)
		}
	}
}

// A worker that is left out itself judges nobody.
func TestWorkerThatIsLeftOutForgetsTheLate(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{GraceMin: time.Second})
	for round := range uint64(4) {
		k.round(round, 40*time.Second)
	}
	if len(k.m.Late()) != 1 {
		t.Fatalf("late are %v", k.m.Late())
	}
	k.m.Receive(k.now, k.ids[1], Envelope{Round: 4, Attempt: 9}, commit{hash: [32]byte{1}, digest: [32]byte{4}, length: 256, base: 4, tokens: 2, workers: []int{1, 2}})
	k.m.Start(k.now, 4, Start{Digest: [32]byte{4}, Tokens: 4, Weight: 1, Length: 256})
	k.m.Complete(k.now, 9, [32]byte{1})
	k.m.Start(k.now, 5, Start{Digest: [32]byte{5}, Tokens: 6, Weight: 1, Length: 256})
	if len(k.m.paces) != 0 {
		t.Errorf("%d peers are known", len(k.m.paces))
	}
}
