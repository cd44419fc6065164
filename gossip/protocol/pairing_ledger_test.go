package protocol

import (
	"testing"
	"time"
)

// Who is owed nothing blames nobody: an exchange is stalled by a partner that does not
// send, not by one that has sent everything while the own line is busy.
func TestPairLedgerStalls(t *testing.T) {
	const grace = 2 * time.Second
	began := time.Unix(1e6, 0)
	for _, c := range []struct {
		name       string
		here, sent int // chunks, a second apart
		after      time.Duration
		want       bool
	}{
		{"nothing has come", 0, 0, grace, true},
		{"nothing has come yet", 0, 0, grace - 1, false},
		{"nothing has come, and some was sent", 0, 3, 3 * grace, true},
		{"the partner is slow", 2, 4, 2*time.Second + grace - 1, false},
		{"the partner stopped", 2, 4, 2*time.Second + grace, true},
		{"the own line is slow", 4, 1, time.Hour, false},
		{"everything is done", 4, 4, time.Hour, false},
	} {
		l := NewPairLedger(began, Exchange{PeerWorker: 1, PeerRound: 5}, 0, 4*256, 256)
		for k := range c.here {
			now := began.Add(time.Duration(k+1) * time.Second)
			if fresh, err := l.Accept(now, Header{Round: 5, Worker: 1, Chunk: uint32(k), Count: 256}); !fresh || err != nil {
				t.Fatalf("%s: chunk %d is fresh: %v, %v", c.name, k, fresh, err)
			}
			l.Arrived(k)
		}
		for range c.sent {
			l.Sent()
		}
		if got := l.Stalled(began.Add(c.after), grace); got != c.want {
			t.Errorf("%s: stalled %v", c.name, got)
		}
	}
}
