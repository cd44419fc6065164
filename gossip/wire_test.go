package gossip

import (
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh/sim"
)

func TestConfigIsChecked(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	good := Config{Mesh: net.Peer(0), Codec: mustCodec(t, "fp32"), Waits: Waits{Deadline: time.Second, Grace: time.Second}}
	for name, spoil := range map[string]func(*Config){
		"Mesh": func(c *Config) { c.Mesh = nil }, "Worker": func(c *Config) { c.Worker = 70000 }, "Codec": func(c *Config) { c.Codec = nil },
		"Deadline": func(c *Config) { c.Deadline = 0 }, "MaxLag": func(c *Config) { c.MaxLag = -1 },
		"Head": func(c *Config) { c.State = func() (exchange.State, error) { return exchange.State{}, nil } }, "StateUpload": func(c *Config) { c.StateUpload = -1 },
	} {
		c := good
		spoil(&c)
		for _, err := range []error{func() error { _, err := NewAllReduce(c); return err }(), func() error { _, err := NewPairs(c); return err }()} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}
