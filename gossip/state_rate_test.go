package gossip

import (
	"bufio"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/transfer"
	"loco/mesh/sim"
)

// What a joiner that does nothing but ask is given counts as what is given to joiners, too.
func TestAnswersAreAtTheRateOfUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, seconds = 50_000, 10
		k := newToys(t, sim.Options{Peers: 2, Latency: time.Millisecond}, func(_ int, c *Config) { c.StateUpload = rate })
		defer k.close()
		for range 6 { // an answer tells of each
			k.step(upTo(2))
		}
		s, err := k.net.Peer(1).Open(t.Context(), k.net.Peer(0).Self(), stateID)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if _, err := io.WriteString(s, transfer.Magic); err != nil {
			t.Fatal(err)
		}
		ask := transfer.AppendFrame(nil, transfer.TypeAsk, transfer.Ask{}.Append(nil))
		r, bytes, answers := bufio.NewReader(s), 0, 0
		var buffer []byte
		for began := time.Now(); time.Since(began) < seconds*time.Second; answers++ {
			if _, err := s.Write(ask); err != nil {
				t.Fatal(err)
			}
			typ, payload, err := transfer.ReadFrame(r, buffer, 1<<20)
			if err != nil || typ != transfer.TypeAnswer {
				t.Fatalf("frame of type %d, %v", typ, err)
			}
			buffer, bytes = payload, bytes+len(payload)
		}
		if most := stateBurst + rate*seconds; bytes > most || bytes < most/2 {
			t.Errorf("%d answers of %d bytes in %d s, at most %d bytes are allowed, and about as many are wanted", answers, bytes, seconds, most)
		}
	})
}
