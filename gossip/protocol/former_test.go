package protocol

import "testing"

// A process that is called into an attempt before it is ready has its former self's vector there, if
// any: what the attempt forms does not count as its own.
func TestFormerSelf(t *testing.T) {
	for _, c := range []struct {
		name          string
		round, number uint64 // that it is called into before; 0: none
		by            int
		without       bool // the group of that call does not have it
		former        bool
	}{
		{"it is ready first", 0, 0, 1, false, false},
		{"it was called into the attempt before", 7, 1, 1, false, true},
		{"into that number of another round", 8, 1, 1, false, false},
		{"into another attempt", 7, 2, 1, false, false},
		{"by one that does not coordinate it", 7, 1, 2, false, false},
		{"it heard of a group without it", 7, 1, 1, true, false},
	} {
		k := newClocked(t, 3, RoundsConfig{})
		g := group{source: 1, members: []GroupMember{{ID: k.ids[0], Weight: 1}}}
		for i, id := range k.ids[1:] {
			g.members = append(g.members, GroupMember{ID: id, Worker: i + 1, Weight: 1})
		}
		number := attemptNumber(1, 1, 9)
		if c.number != 0 {
			before := g
			if c.without {
				before = k.others()
			}
			k.m.Receive(k.now, k.ids[c.by], Envelope{Round: c.round, Attempt: number + c.number - 1, Worker: c.by}, before)
		}
		k.m.Start(k.now, 7, Start{Weight: 1, Length: 256})
		k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: number, Worker: 1}, g)
		if k.m.attempt == nil || k.m.attempt.number != number {
			t.Fatalf("%s: is in no attempt", c.name)
		}
		k.m.Complete(k.now, number, [32]byte{1})
		k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: number, Worker: 1}, commit{hash: [32]byte{1}, length: 256, tokens: 3, workers: []int{0, 1, 2}})
		var got *Result
		for _, a := range k.m.Take() {
			if a.Finish != nil {
				got = a.Finish.Result
			}
		}
		if got == nil || got.Former != c.former {
			t.Errorf("%s: %+v, want former %v", c.name, got, c.former)
		}
	}
}
