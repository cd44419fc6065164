package process

import (
	"loco/gossip"
	"loco/trainer"
	"loco/worker/config"
)

// Needs is what a run asks of each worker.
type Needs struct {
	Parameters     int     `json:"parameters"`
	Tokens         uint64  `json:"tokens"` // of the whole run
	FLOPs          float64 `json:"flops"`  // of the whole run
	MemoryDevice   int64   `json:"memory_device_bytes"`
	MemoryHost     int64   `json:"memory_host_bytes"` // φ, outer momentum, exchange and snapshot
	BytesPerRound  int64   `json:"bytes_per_round"`   // sent by one worker
	RoundsExchange uint64  `json:"rounds"`
	Checkpoint     int64   `json:"checkpoint_bytes"`
}

// NeedsOf computes what a run of a configuration asks of each worker.
func NeedsOf(cfg *config.Config) (n Needs, err error) {
	m := modelConfig(cfg)
	if err := m.Validate(); err != nil {
		return n, Usage(err)
	}
	p := int64(m.Parameters())
	n.Parameters = int(p)
	n.Tokens = cfg.TotalTokens()
	n.FLOPs = m.FLOPsPerToken(m.Context) * float64(n.Tokens)
	n.MemoryDevice = m.Memory(cfg.MicroBatch()).Total()
	n.RoundsExchange = cfg.Exchanges()
	n.Checkpoint = 4 * p * 4 // φ, momentum, m, v
	outer := trainer.Config{Strategy: cfg.Sync.Strategy, SlowCycle: uint64(cfg.Sync.SlowCycle)}
	n.MemoryHost = 4 * p * int64(5+1+outer.OuterVectors()) // a snapshot, Δ, the outer state
	c, state, err := codecsOf(cfg)
	if err != nil {
		return n, err
	}
	n.MemoryHost += 2 * int64(c.EncodedLen(int(p))) // this worker's and the mean
	switch cfg.Sync.Strategy {
	case config.DiLoCo, config.DDP:
		n.BytesPerRound = gossip.BytesPerRound(c, int(p), cfg.Run.Workers)
	case config.NoLoCo:
		n.BytesPerRound = gossip.PairBytes(c, int(p))
		if !fastOnly(cfg) {
			n.BytesPerRound += gossip.PairBytes(state, int(p))
		}
	}
	return n, nil
}
