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

// A worker that is behind offers to its partner that is ahead, whatever their numbers, and
// that one takes who comes from an earlier round: after a disturbance nobody waits for the
// grace period in every round.
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

// A worker that has every byte and has said so is in doubt until its partner says the same.
// It takes nobody else meanwhile, asks, and goes on alone, counted, at its deadline.
func TestPairInDoubtAsksAndIsCounted(t *testing.T) {
	own := terms{weight: 1, length: 4}
	members := make([]mesh.Member, 3)
	for k := range members {
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprint("w", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true}}
	}
	for _, c := range []struct {
		name    string
		answer  Message // of the partner; nil: none
		partner int
		torn    bool
	}{
		{"the partner holds it too", holds{}, 1, false},
		{"the partner has not averaged", refuse{"no"}, -1, false},
		{"the partner is a new process", forgot{}, -1, true},
		{"nobody answers", nil, -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			round := uint64(0)
			for {
				if p, ok := Match(1, round, []int{0, 1, 2}, 0); ok && p == 1 {
					break
				}
				round++
			}
			now := time.Unix(0, 0)
			m := NewPairing(PairingConfig{Self: "w0", Seed: 1, Lag: 1, Deadline: time.Minute, Grace: time.Second})
			m.View(now, members)
			m.Start(now, Delta, round, own.weight, int(own.length))
			number := m.seeks[Delta].number
			env := Envelope{Round: round, Attempt: number, Worker: 1}
			m.Receive(now, "w1", env, accept{own})
			m.Take()
			m.Complete(now, Delta, number)
			if acts := m.Take(); len(acts) != 1 || acts[0].Send == nil || acts[0].Send.Msg != (holds{asks: true}) {
				t.Fatalf("with all bytes it does %+v, want to say so and ask", acts)
			}
			m.Receive(now, "w2", Envelope{Round: round, Attempt: 9, Worker: 2}, offer{own})
			m.Fail(now, Delta, number, "broken")
			members[1].State = mesh.Dead
			m.View(now, members)
			members[1].State = mesh.Alive
			m.View(now, members)
			for _, a := range m.Take() {
				if a.Send == nil || a.Send.To != "w2" {
					t.Fatalf("in doubt it does %+v, want only a refusal to who else asks", a)
				}
			}
			m.Tick(now.Add(time.Second))
			if acts := m.Take(); len(acts) != 1 || acts[0].Send == nil || acts[0].Send.Msg != (holds{asks: true}) {
				t.Fatalf("a second later it does %+v, want to ask again", acts)
			}
			if c.answer != nil {
				m.Receive(now, "w1", env, c.answer)
			}
			for _, id := range []mesh.ID{"w1", "w2"} {
				m.Receive(now, id, Envelope{Round: round + 3, Worker: int(id[1] - '0')}, refuse{"has a partner"})
			}
			m.Tick(now.Add(time.Minute))
			var end *PairFinish
			for _, a := range m.Take() {
				if a.Finish != nil {
					end = a.Finish
				}
			}
			if end == nil || end.Partner != c.partner || end.Torn != c.torn {
				t.Errorf("ends with %+v, want partner %d, torn %v", end, c.partner, c.torn)
			}
			m.Receive(now, "w1", env, holds{asks: true})
			if acts := m.Take(); len(acts) != 1 || acts[0].Send == nil || (acts[0].Send.Msg == holds{}) != (c.partner == 1) {
				t.Errorf("asked later, it answers %+v", acts)
			}
		})
	}
}

// What a lonely worker sends does not depend on how many there are, and two lonely ones
// among a thousand are brought together.
func TestTwoLonelyWorkersAmongManyMeet(t *testing.T) {
	const n = 1000
	now, own := time.Unix(0, 0), terms{weight: 1, length: 4}
	members := make([]mesh.Member, n)
	all := make([]int, n)
	for k := range members {
		all[k] = k
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprintf("w%04d", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true}}
	}
	ms := make([]*Pairing, n)
	for k := range ms {
		ms[k] = NewPairing(PairingConfig{Self: members[k].ID, Worker: k, Seed: 1, Lag: 1, Deadline: time.Minute, Grace: time.Second})
		ms[k].View(now, members)
	}
	lonelies := map[int]bool{}
	for _, dead := range []int{3, 700} {
		p, _ := Match(1, 0, all, dead)
		lonelies[p] = true
		members[dead].State = mesh.Dead
	}
	sent := map[int]int{}
	var queue []Send
	var from []int
	collect := func(k int) {
		for _, a := range ms[k].Take() {
			if a.Send != nil {
				sent[k]++
				queue, from = append(queue, *a.Send), append(from, k)
			}
		}
	}
	for k := range lonelies {
		ms[k].Start(now, Delta, 0, own.weight, int(own.length))
	}
	for k, m := range ms {
		if m.View(now, members); lonelies[k] {
			collect(k)
		}
	}
	for i := 0; i < len(queue); i++ {
		var k int
		fmt.Sscanf(string(queue[i].To), "w%d", &k)
		ms[k].Receive(now, members[from[i]].ID, queue[i].Env, queue[i].Msg)
		collect(k)
	}
	for k := range lonelies {
		if !ms[k].Exchanges(Delta) {
			t.Errorf("worker %d found nobody", k)
		}
		if sent[k] > tellFirst+4 {
			t.Errorf("worker %d sent %d messages", k, sent[k])
		}
	}
}

// Who is left by its partner calls before it goes on alone, though all others have finished
// the round and have declined; it keeps to the lonely worker that it asks, and tells one of a
// lower number that calls that it is free.
func TestPairCallsBeforeItGoesOnAlone(t *testing.T) {
	const self, grace = 1, 4 * time.Second
	own, now := terms{weight: 1, length: 4}, time.Unix(0, 0)
	members := make([]mesh.Member, 4)
	for k := range members {
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprint("w", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true, Round: 9}}
	}
	begin := func() (*Pairing, mesh.ID, []*Send) {
		m := NewPairing(PairingConfig{Self: members[self].ID, Worker: self, Seed: 1, Lag: 2, Deadline: time.Minute, Grace: grace})
		m.View(now, members)
		m.Start(now, Delta, 8, own.weight, int(own.length)) // the others have finished this round
		partner := m.partner
		m.Receive(now, partner, Envelope{Round: 9, Attempt: m.seeks[Delta].number, Worker: m.members[partner].Worker}, refuse{"is in another exchange"})
		return m, partner, sends(m)
	}
	m, partner, said := begin()
	called := map[mesh.ID]bool{}
	for _, s := range said {
		if _, ok := s.Msg.(lonely); ok {
			called[s.To] = true
		}
	}
	if len(called) != 3 || m.seeks[Delta] == nil {
		t.Fatalf("it calls %v and still seeks: %v; want a call to all three", called, m.seeks[Delta] != nil)
	}
	for _, p := range members {
		if p.ID != m.Self && p.ID != partner {
			m.Receive(now, p.ID, Envelope{Round: 9, Worker: p.Worker}, refuse{"has a partner"})
		}
	}
	if m.Tick(now.Add(grace/4 - 1)); m.seeks[Delta] == nil {
		t.Error("it goes on alone before a quarter of the grace period is over")
	}
	if m.Tick(now.Add(grace / 4)); m.seeks[Delta] != nil {
		t.Error("it waits though all have declined and a quarter of the grace period is over")
	}

	m, _, _ = begin()
	call := func(k int) []*Send {
		m.Receive(now, members[k].ID, Envelope{Round: 8, Worker: k}, lonely{own})
		return sends(m)
	}
	if got := call(0); len(got) != 1 || got[0].To != "w0" || got[0].Msg != Message(lonely{own}) {
		t.Errorf("a call of a lower worker is answered by %v, want a call", got)
	}
	if got := call(3); len(got) != 1 || got[0].To != "w3" || got[0].Msg != Message(offer{own}) {
		t.Errorf("a call of a higher worker is answered by %v, want an offer", got)
	}
	if got := call(2); len(got) != 0 || m.seeks[Delta].peer != "w3" {
		t.Errorf("it sends %v and asks %s, want it to keep to w3", got, m.seeks[Delta].peer)
	}
}

// sends takes the messages that a machine sends.
func sends(m *Pairing) (out []*Send) {
	for _, a := range m.Take() {
		if a.Send != nil {
			out = append(out, a.Send)
		}
	}
	return out
}

// An offer that comes again after it was refused, because its link broke, does not end the
// exchange that its sender has proposed since; a newer one does.
func TestPairIgnoresAnOfferThatComesAgain(t *testing.T) {
	own, now := terms{weight: 1, length: 4}, time.Unix(0, 0)
	members := make([]mesh.Member, 3)
	for k := range members {
		members[k] = mesh.Member{ID: mesh.ID(fmt.Sprint("w", k)), State: mesh.Alive, Status: mesh.Status{Worker: k, Ready: true}}
	}
	round := uint64(0)
	for {
		if p, ok := Match(1, round, []int{0, 1, 2}, 2); ok && p == 0 {
			break
		}
		round++
	}
	m := NewPairing(PairingConfig{Self: "w2", Worker: 2, Seed: 1, Deadline: time.Minute, Grace: time.Second})
	m.View(now, members)
	m.Start(now, Delta, round, own.weight, int(own.length))
	offers := func(try int, want int) {
		t.Helper()
		m.Receive(now, "w0", Envelope{Round: round, Attempt: attemptNumber(try, 0, 7)}, offer{own})
		m.Take()
		if s := m.seeks[Delta]; s == nil || !s.exchange || s.number != attemptNumber(want, 0, 7) {
			t.Errorf("after the offer of try %d it is in %+v, want an exchange of try %d", try, s, want)
		}
	}
	offers(WorkerMax, WorkerMax)
	offers(WorkerMax-1, WorkerMax)
	offers(0, 0) // the count of tries has begun anew
	offers(WorkerMax, 0)
}
