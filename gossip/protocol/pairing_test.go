package protocol

import (
	"fmt"
	"testing"
	"time"

	"loco/mesh"
)

// A worker that is done with its round offers the next one while its next partner is
// still in an exchange. The offer must wait there: refused, both would go on alone.
func TestPairKeepsTheOfferOfAWorkerThatIsAhead(t *testing.T) {
	members := make([]mesh.Member, 4)
	for k := range members {
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprint("w", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true}}
	}
	const self, lag = 3, 2
	partner := func(round uint64) int {
		k, ok := Match(1, round, []int{0, 1, 2, 3}, self)
		if !ok {
			t.Fatal("no partner among four")
		}
		return k
	}
	for _, again := range []bool{false, true} { // the next partner is another, or the same
		round := uint64(0)
		for (partner(round) == partner(round+1)) != again {
			round++
		}
		now := time.Unix(0, 0)
		m := NewPairing(PairingConfig{Self: members[self].ID, Worker: self, Seed: 1, Lag: lag, Deadline: time.Minute, Grace: time.Second})
		m.View(now, members)
		first, next := members[partner(round)].ID, members[partner(round+1)].ID
		own := terms{weight: 1, length: 4}
		m.Start(now, Delta, round, own.weight, int(own.length))
		m.Receive(now, first, Envelope{Round: round, Attempt: 7, Worker: partner(round)}, offer{own})
		m.Take()
		if s := m.seeks[Delta]; s == nil || !s.exchange {
			t.Fatal("the first offer was not accepted")
		}
		m.Receive(now, next, Envelope{Round: round + 1, Attempt: 8, Worker: partner(round + 1)}, offer{own})
		if acts := m.Take(); len(acts) != 0 {
			t.Fatalf("same partner %v: %d actions follow an offer for the next round, want none: %+v", again, len(acts), acts[0].Send)
		}
		m.Complete(now, Delta, 7)
		m.Receive(now, first, Envelope{Round: round, Attempt: 7, Worker: partner(round)}, holds{})
		m.Take()
		m.Start(now, Delta, round+1, own.weight, int(own.length))
		if s := m.seeks[Delta]; s == nil || !s.exchange || s.peer != next || s.number != 8 {
			t.Fatalf("same partner %v: the kept offer was not accepted: %+v", again, s)
		}
	}
}

// A worker that is behind does not wait for a partner that has finished its round, and
// one that is ahead takes the partner that it waits for in an earlier round: after a
// disturbance nobody waits for the grace period in every round.
func TestPairsOfDifferentRoundsMeet(t *testing.T) {
	now, own := time.Unix(0, 0), terms{weight: 1, length: 4}
	machine := func(self int, round uint64, other uint64) *Pairing {
		m := NewPairing(PairingConfig{Self: mesh.ID(fmt.Sprint("w", self)), Worker: self, Seed: 1, Lag: 2, Deadline: time.Minute, Grace: time.Second})
		var members []mesh.Member
		for k, r := range []uint64{other, other} {
			if k == self {
				r = round
			}
			members = append(members, mesh.Member{ID: mesh.ID(fmt.Sprint("w", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true, Round: r}})
		}
		m.View(now, members)
		m.Start(now, Delta, round, own.weight, int(own.length))
		return m
	}
	for _, behind := range []int{0, 1} {
		ahead := 1 - behind
		ms := map[int]*Pairing{behind: machine(behind, 7, 9), ahead: machine(ahead, 9, 7)}
		if s := ms[behind].seeks[Delta]; s == nil || !s.lonely {
			t.Fatalf("worker %d waits for a partner that has finished its round: %+v", behind, s)
		}
		for range 10 { // deliver what they say to each other
			for from, m := range ms {
				for _, act := range m.Take() {
					if act.Send != nil {
						ms[1-from].Receive(now, mesh.ID(fmt.Sprint("w", from)), act.Send.Env, act.Send.Msg)
					}
				}
			}
		}
		for k, m := range ms {
			if s := m.seeks[Delta]; s == nil || !s.exchange {
				t.Errorf("behind %d: worker %d is in no exchange: %+v", behind, k, s)
			}
		}
	}
}
