package protocol

import (
	"fmt"
	"testing"
	"time"

	"loco/mesh"
)

// lonelyOf is a machine of n workers that seeks in round 3 and has been refused by its partner.
func lonelyOf(t *testing.T, n int, now time.Time) (*Pairing, []mesh.Member, mesh.ID) {
	t.Helper()
	members := make([]mesh.Member, n)
	for k := range members {
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprintf("w%02d", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true, Round: 3}}
	}
	m := NewPairing(PairingConfig{Self: members[0].ID, Seed: 1, Lag: 2, Deadline: time.Minute, Grace: 4 * time.Second})
	m.View(now, members)
	m.Start(now, Delta, 3, 1, 4)
	partner := m.partner
	m.Receive(now, partner, Envelope{Round: 3, Attempt: m.seeks[Delta].number, Worker: m.members[partner].Worker}, refuse{"is in another exchange"})
	return m, members, partner
}

// A lonely worker tells a few at once, and a few more each quarter of the grace period, none twice.
func TestLonelyWorkerTellsMoreWithTime(t *testing.T) {
	now := time.Unix(1e6, 0)
	m, _, _ := lonelyOf(t, 40, now)
	told := map[mesh.ID]bool{}
	for k, want := range []int{tellFirst, tellFirst, tellFirst + tellMore, tellFirst + tellMore, tellFirst + 2*tellMore} {
		if m.Tick(now.Add(time.Duration(k) * m.Grace / 8)); m.seeks[Delta] == nil {
			t.Fatal("it has gone on alone")
		}
		for _, s := range sends(m) {
			if _, ok := s.Msg.(lonely); !ok {
				continue
			}
			if told[s.To] {
				t.Errorf("%s is told twice", s.To)
			}
			told[s.To] = true
		}
		if len(told) != want {
			t.Errorf("after %d eighths of the grace period it has told %d, want %d", k, len(told), want)
		}
	}
}

// A peer that accepts with another length is refused, and counts as one that has declined.
func TestAcceptThatDoesNotFitIsRefused(t *testing.T) {
	now := time.Unix(1e6, 0)
	for length, fits := range map[uint64]bool{4: true, 5: false} {
		m := NewPairing(PairingConfig{Self: "w0", Seed: 1, Deadline: time.Minute, Grace: 4 * time.Second})
		m.View(now, []mesh.Member{
			{ID: "w0", State: mesh.Alive, Status: mesh.Status{Ready: true}},
			{ID: "w1", State: mesh.Alive, Status: mesh.Status{Worker: 1, Ready: true}},
		})
		m.Start(now, Delta, 0, 1, 4)
		m.Take()
		number := m.seeks[Delta].number
		m.Receive(now, "w1", Envelope{Attempt: number, Worker: 1}, accept{terms{1, length}})
		if got := m.Exchanges(Delta); got != fits {
			t.Errorf("length %d: exchanges %v", length, got)
		}
		if fits {
			continue
		}
		refused := false
		for _, s := range sends(m) {
			_, ok := s.Msg.(refuse)
			refused = refused || ok && s.To == "w1" && s.Env.Attempt == number
		}
		if s := m.seeks[Delta]; !refused || s == nil || !s.declined["w1"] || !s.lonely {
			t.Errorf("it is refused: %v, and the seek is %+v", refused, s)
		}
		if m.Tick(now.Add(m.Grace / 4)); m.seeks[Delta] != nil {
			t.Error("it waits on though the only other has declined")
		}
	}
}

// A peer that has left the view, or is not waited for any more, is not observed to be late.
func TestPeersThatAreNotWaitedForAreNotObserved(t *testing.T) {
	for name, change := range map[string]func(*mesh.Member){
		"dead":     func(p *mesh.Member) { p.State = mesh.Dead },
		"finished": func(p *mesh.Member) { p.Done = true },
		"live":     func(*mesh.Member) {},
	} {
		k := newClocked(t, 3, RoundsConfig{GraceMin: time.Second})
		k.round(0, 40*time.Second)
		p := k.m.members[k.ids[2]]
		change(&p)
		k.m.members[k.ids[2]] = p
		delete(k.m.readys, k.ids[2])
		k.m.turnOver(1)
		if got := k.m.paces[k.ids[2]] != nil; got != (name == "live") {
			t.Errorf("a peer that is %s is observed: %v", name, got)
		}
	}
}
