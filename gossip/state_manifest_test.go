package gossip

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/mesh"
	"loco/mesh/sim"
)

// swapper sends another manifest than the one that its peer serves, under a right CRC.
type swapper struct {
	mesh.Mesh
	swap func(m *transfer.Manifest)
}

func (s swapper) Handle(protocol string, h func(mesh.ID, mesh.Stream)) {
	if h == nil || protocol != stateID {
		s.Mesh.Handle(protocol, h)
		return
	}
	s.Mesh.Handle(protocol, func(from mesh.ID, stream mesh.Stream) { h(from, &swapped{stream, s.swap}) })
}

type swapped struct {
	mesh.Stream
	swap func(m *transfer.Manifest)
}

func (s *swapped) Write(b []byte) (int, error) {
	if transfer.Type(b[0]) != transfer.TypeManifest {
		return s.Stream.Write(b)
	}
	m, err := transfer.ParseManifest(b[5:len(b)-4], 1<<40)
	if err != nil {
		return 0, err
	}
	s.swap(m)
	if _, err := s.Stream.Write(transfer.AppendFrame(nil, transfer.TypeManifest, m.Append(nil))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A source that sends the manifest of another object is no source, and the error says so.
func TestManifestOfAnotherObjectIsRefused(t *testing.T) {
	for want, swap := range map[string]func(m *transfer.Manifest){
		"sends the manifest of another object: kind 2 of round 1": func(m *transfer.Manifest) { m.Kind = transfer.Moments },
		"its manifest of round 7 does not have the digest":        func(m *transfer.Manifest) { m.Round = 7 },
		"its manifest of round 1 does not have the digest":        func(m *transfer.Manifest) { m.Digest[3] ^= 1 },
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newToys(t, sim.Options{Peers: 2, Latency: 5 * time.Millisecond}, func(i int, c *Config) {
				if i == 0 {
					c.Mesh = swapper{c.Mesh, swap}
				}
			})
			defer k.close()
			k.joining(1)
			k.step(upTo(1))
			_, err := k.peers[1].FetchState(context.Background(), exchange.Want{})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "worker 0 (peer-000)") {
				t.Errorf("error %v, want %q", err, want)
			}
			if n := k.sent[0].Load(); n > 0 {
				t.Errorf("%d bytes of the object were fetched all the same", n)
			}
		})
	}
}
