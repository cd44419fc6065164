package main

import (
	"encoding/json"
	"fmt"
	"os"

	"loco/gossip"
	"loco/trainer"
	"loco/worker/config"
)

type configCmd struct {
	Show   configShow   `cmd:"" help:"Print the effective configuration, every key with its documentation."`
	Check  configCheck  `cmd:"" help:"Check a configuration and say all that is wrong with it."`
	Preset configPreset `cmd:"" help:"Print a preset: its parameters, the memory and bytes it needs, its file."`
}

type configShow struct {
	configFlags
	Devices bool `help:"List what a worker can compute on, instead: GPUs with their memory, compute capability and driver, and the CPU."`
}

func (configShow) Help() string {
	return "Example:\n  loco config show run.toml --set sync.strategy=noloco > new.toml\n  loco config show --devices"
}

func (c *configShow) Run() error {
	if c.Devices {
		return showDevices(os.Stdout)
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return cfg.Encode(os.Stdout)
}

type configCheck struct {
	configFlags
	JSON bool `help:"Print the needs as JSON."`
}

func (configCheck) Help() string { return "Example:\n  loco config check run.toml" }

func (c *configCheck) Run() error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	n, err := needsOf(&cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(n)
	}
	fmt.Println("The configuration is valid.")
	n.print()
	return nil
}

type configPreset struct {
	Name string `arg:"" help:"One of: ${presets}."`
	JSON bool   `help:"Print the needs as JSON, without the file."`
}

func (configPreset) Help() string {
	return "Example:\n  loco config preset home-60m > run.toml"
}

func (c *configPreset) Run() error {
	cfg, err := config.Preset(c.Name)
	if err != nil {
		return err
	}
	n, err := needsOf(&cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(n)
	}
	n.print()
	fmt.Println()
	return config.EncodePreset(os.Stdout, c.Name)
}

// needs is what a run asks of each worker.
type needs struct {
	Parameters     int     `json:"parameters"`
	Tokens         uint64  `json:"tokens"` // of the whole run
	FLOPs          float64 `json:"flops"`  // of the whole run
	MemoryDevice   int64   `json:"memory_device_bytes"`
	MemoryHost     int64   `json:"memory_host_bytes"` // φ, outer momentum, exchange and snapshot
	BytesPerRound  int64   `json:"bytes_per_round"`   // sent by one worker
	RoundsExchange uint64  `json:"rounds"`
	Checkpoint     int64   `json:"checkpoint_bytes"`
}

func needsOf(cfg *config.Config) (n needs, err error) {
	m := modelConfig(cfg)
	if err := m.Validate(); err != nil {
		return n, usageError{err}
	}
	p := int64(m.Parameters())
	n.Parameters = int(p)
	n.Tokens = cfg.TotalTokens()
	n.FLOPs = m.FLOPsPerToken(m.Context) * float64(n.Tokens)
	n.MemoryDevice = m.Memory(cfg.MicroBatch()).Total()
	n.RoundsExchange = trainerRounds(cfg)
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

// fastOnly says whether NoLoCo's β = γ form is used, in which only θ crosses. θ is no
// small difference, so only an exact codec will do.
func fastOnly(cfg *config.Config) bool {
	return cfg.Sync.Strategy == config.NoLoCo && cfg.Sync.Beta == cfg.Sync.Gamma && cfg.Sync.Codec == "fp32"
}

func (n needs) print() {
	fmt.Printf("# %s parameters; %s tokens in %d exchanges; %s floating-point operations\n", formatCount(float64(n.Parameters)), formatCount(float64(n.Tokens)), n.RoundsExchange, formatFLOPs(n.FLOPs))
	fmt.Printf("# a worker needs %s on its device, %s on the host, %s for a checkpoint\n", formatBytes(uint64(n.MemoryDevice)), formatBytes(uint64(n.MemoryHost)), formatBytes(uint64(n.Checkpoint)))
	fmt.Printf("# and sends %s in a round\n", formatBytes(uint64(n.BytesPerRound)))
}

func formatFLOPs(x float64) string { return fmt.Sprintf("%.2g", x) }
