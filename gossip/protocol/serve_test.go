package protocol

import (
	"testing"

	"loco/mesh"
)

// Who gives a download up is not sent it any more, if it has not had its turn yet.
func TestPeerThatAsksElsewhereIsNotServed(t *testing.T) {
	k := newClocked(t, 8, RoundsConfig{})
	k.round(0, 0)
	ask := Envelope{Round: 0, Attempt: k.m.kept.attempt}
	served := func() (to []mesh.ID) {
		for _, a := range k.m.Take() {
			if a.Serve != nil {
				to = append(to, a.Serve.To)
			}
		}
		return to
	}
	for _, id := range k.ids[1:8] {
		k.m.Receive(k.now, id, ask, want{})
	}
	if to := served(); len(to) != servesMax {
		t.Fatalf("%v are served at once", to)
	}
	k.m.Receive(k.now, k.ids[5], ask, withdraw{})
	k.m.Receive(k.now, k.ids[6], Envelope{Round: 1}, withdraw{}) // from another round
	k.m.Receive(k.now, k.ids[4], ask, withdraw{})                // is being served
	quit := false
	for _, a := range k.m.out {
		quit = quit || a.Quit != nil && a.Quit.To == k.ids[4]
	}
	if !quit {
		t.Error("who is being served, and gives up, is sent the rest")
	}
	k.m.Served(k.ids[1])
	k.m.Served(k.ids[2])
	if to := served(); len(to) != 2 || to[0] != k.ids[6] || to[1] != k.ids[7] {
		t.Errorf("then %v are served, want those who still wait", to)
	}
}

// Where a download is given up its source hears of it.
func TestDownloadGivenUpIsSaid(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	k.m.Receive(k.now, k.ids[1], Envelope{Round: 7, Attempt: 9}, commit{hash: [32]byte{1}, length: 256, base: 1, tokens: 2, workers: []int{1, 2}})
	k.m.Take()
	k.m.Fail(k.now, 9, k.ids[1], "silent")
	said := false
	for _, a := range k.m.Take() {
		if a.Send != nil && a.Send.To == k.ids[1] {
			_, ok := a.Send.Msg.(withdraw)
			said = said || ok
		}
	}
	if !said {
		t.Error("the source is not told")
	}
}

// What a peer asked for in an older attempt does not hold up what it needs now, and members of
// a group that adopts do not wait for each other.
func TestMembersAreServedAtOnce(t *testing.T) {
	k := newClocked(t, 8, RoundsConfig{})
	k.m.serve(Serve{To: k.ids[1], Round: 3, Attempt: 5, Number: 5})
	for _, id := range k.ids[1:] {
		k.m.serve(Serve{To: id, Round: 3, Attempt: 5, Number: 6, member: true})
	}
	serves, quits := map[mesh.ID]uint64{}, 0
	take := func() {
		for _, a := range k.m.Take() {
			if a.Serve != nil {
				serves[a.Serve.To] = a.Serve.Number
			}
			if a.Quit != nil && a.Quit.To == k.ids[1] && a.Quit.Number == 5 {
				quits++
			}
		}
	}
	if take(); len(serves) != 7 || serves[k.ids[1]] != 5 || quits != 1 {
		t.Errorf("sends %v, and quit %d", serves, quits)
	}
	k.m.Served(k.ids[1])
	if take(); serves[k.ids[1]] != 6 {
		t.Errorf("then it sends %v", serves)
	}
}
