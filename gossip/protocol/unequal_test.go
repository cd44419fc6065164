package protocol

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
)

// together runs machines whose messages arrive at once, and whose transfers take no time, until
// nothing happens any more; every result has the hash {1}. It returns how each ended.
func together(now time.Time, ms map[mesh.ID]*Rounds) map[mesh.ID]Finish {
	ends := map[mesh.ID]Finish{}
	for busy := true; busy; {
		busy = false
		for _, id := range slices.Sorted(func(yield func(mesh.ID) bool) {
			for id := range ms {
				if !yield(id) {
					return
				}
			}
		}) {
			for _, a := range ms[id].Take() {
				busy = true
				switch {
				case a.Send != nil && ms[a.Send.To] != nil:
					ms[a.Send.To].Receive(now, id, a.Send.Env, a.Send.Msg)
				case a.Begin != nil:
					ms[id].Complete(now, a.Begin.Number, [32]byte{1})
				case a.Finish != nil:
					ends[id] = *a.Finish
				}
			}
		}
	}
	return ends
}

func threeMachines(now time.Time, c RoundsConfig) map[mesh.ID]*Rounds {
	ms := map[mesh.ID]*Rounds{}
	var members []mesh.Member
	for k := range 3 {
		id := mesh.ID(fmt.Sprint("w", k))
		members = append(members, mesh.Member{ID: id, State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true}})
		c.Self, c.Worker, c.Deadline, c.Grace = id, k, time.Minute, 4*time.Second
		ms[id] = NewRounds(c)
	}
	for _, m := range ms {
		m.View(now, members)
	}
	return ms
}

// Replicas that differ by design average with each other, round by round; others of differing states
// do not.
func TestUnequalReplicasAgreeOnTheRoundAlone(t *testing.T) {
	now := time.Unix(1e6, 0)
	for _, unequal := range []bool{false, true} {
		ms := threeMachines(now, RoundsConfig{Unequal: unequal, Part: exchange.Slow})
		for round := range uint64(3) {
			for id, m := range ms {
				k := float64(m.Worker)
				m.Start(now, round, Start{Digest: [32]byte{id[1], byte(round)}, Tokens: 10*k + float64(round), Weight: 1 + k, Length: 256})
			}
			for id, m := range ms {
				for _, a := range m.out {
					if a.Send != nil && a.Send.Env.Part != exchange.Slow {
						t.Errorf("%s sends %T of part %d", id, a.Send.Msg, a.Send.Env.Part)
					}
				}
			}
			ends := together(now, ms)
			if !unequal {
				for id, f := range ends {
					if f.Result != nil && len(f.Result.Workers) > 1 {
						t.Errorf("equal replicas of different states average: %s of %v", id, f.Result.Workers)
					}
				}
				break
			}
			for id := range ms {
				r := ends[id].Result
				if r == nil || r.Round != round || r.Tokens != 6 || !slices.Equal(r.Workers, []int{0, 1, 2}) {
					t.Fatalf("round %d: %s ends with %+v, result %+v", round, id, ends[id], r)
				}
			}
			for id, m := range ms {
				if hears := id != "w0"; m.Over(round, 1e9) != hears || m.Over(round+1, 0) {
					t.Errorf("round %d: %s does not know that it is over, or thinks that the next is", round, id)
				}
			}
		}
	}
}

// A worker in an earlier round is behind, whatever tokens it has; one in the same round never is.
func TestUnequalReplicasAreBehindByRound(t *testing.T) {
	now := time.Unix(1e6, 0)
	for ahead, behind := range map[uint64]bool{7: false, 8: true} {
		ms := threeMachines(now, RoundsConfig{Unequal: true})
		delete(ms, "w2")
		ms["w0"].Start(now, 7, Start{Digest: [32]byte{1}, Tokens: 1000, Weight: 1, Length: 256})
		ms["w1"].Start(now, ahead, Start{Digest: [32]byte{2}, Tokens: 1, Weight: 1, Length: 256})
		ends := together(now, ms)
		if f, ended := ends["w0"]; ended != behind || behind && (f.Behind == "" || f.Source != "w1") {
			t.Errorf("the other is in round %d: ends %v with %+v, want behind %v", ahead, ended, f, behind)
		}
		if f, ended := ends["w1"]; ended {
			t.Errorf("the other is in round %d: the one ahead ends with %+v", ahead, f)
		}
	}
}

// A Behind about an earlier round may come late: its sender is in the round that this worker is in by
// now.
func TestUnequalReplicasAreNotBehindInTheirRound(t *testing.T) {
	now := time.Unix(1e6, 0)
	for next, want := range map[uint64]bool{7: false, 8: true} {
		m := threeMachines(now, RoundsConfig{Unequal: true})["w0"]
		m.Start(now, 7, Start{Weight: 1, Length: 256})
		m.Take()
		for worker, id := range []mesh.ID{"w1", "w2"} {
			m.Receive(now, id, Envelope{Round: 5, Worker: worker + 1}, behind{next: next, tokens: float64(next)})
		}
		if m.active == want {
			t.Errorf("the others are in round %d: behind %v in round 7", next, !m.active)
		}
	}
}
