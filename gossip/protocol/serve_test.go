package protocol

import (
	"testing"

	"loco/mesh"
)

// Who gives a download up is not sent it any more, if it has not had its turn yet.
func TestWhoAsksElsewhereIsNotServed(t *testing.T) {
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
