package main

import (
	"encoding/json"
	"fmt"
	"os"

	"loco/worker/config"
	"loco/worker/process"
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
		return process.ShowDevices(os.Stdout)
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
	n, err := process.NeedsOf(&cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(n)
	}
	fmt.Println("The configuration is valid.")
	printNeeds(&cfg, n)
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
	n, err := process.NeedsOf(&cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(n)
	}
	printNeeds(&cfg, n)
	fmt.Println()
	return config.EncodePreset(os.Stdout, c.Name)
}

func printNeeds(cfg *config.Config, n process.Needs) {
	if cfg.Run.Time > 0 {
		fmt.Printf("# loco run measures, and chooses the rounds that fit run.time = %s; of run.rounds = %d, which others take:\n", cfg.Run.Time, cfg.Run.Rounds)
	}
	fmt.Printf("# %s parameters; %s tokens in %d exchanges; %s floating-point operations\n", process.FormatCount(float64(n.Parameters)), process.FormatCount(float64(n.Tokens)), n.RoundsExchange, formatFLOPs(n.FLOPs))
	fmt.Printf("# a worker needs %s on its device, %s on the host, %s for a checkpoint\n", process.FormatBytes(uint64(n.MemoryDevice)), process.FormatBytes(uint64(n.MemoryHost)), process.FormatBytes(uint64(n.Checkpoint)))
	fmt.Printf("# and sends %s in a round\n", process.FormatBytes(uint64(n.BytesPerRound)))
}

func formatFLOPs(x float64) string { return fmt.Sprintf("%.2g", x) }
