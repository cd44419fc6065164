package process

import (
	"loco/gossip"
	"loco/gossip/exchange"
	"loco/trainer/strategy"
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
	row, err := cfg.Row()
	if err != nil {
		return n, err
	}
	n.MemoryHost = 4 * p * int64(5+1+len(row.Vectors)) // a snapshot, Δ, the outer state
	c, state, err := codecsOf(cfg)
	if err != nil {
		return n, err
	}
	n.MemoryHost += 2 * int64(c.EncodedLen(int(p))) // this worker's and the mean
	for _, crossing := range row.Crossings {
		format := c
		if crossing.Part == exchange.Slow {
			format = state
		}
		if crossing.With == strategy.Pair {
			n.BytesPerRound += gossip.PairBytes(format, int(p))
		} else {
			n.BytesPerRound += gossip.BytesPerRound(format, int(p), cfg.Run.Workers)
		}
	}
	return n, nil
}
