package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"loco/worker/process"
)

type evalCmd struct {
	Checkpoint string `arg:"" help:"Checkpoint's folder, or a run's folder for its newest."`
	Tokens     int    `help:"Held-out tokens to evaluate on; 0 = all." default:"262144"`
	Source     string `help:"Folder or file of text to evaluate on, instead of the run's held-out data." type:"path"`
	JSON       bool   `help:"Print JSON."`
}

func (evalCmd) Help() string {
	return "With --source, the held-out share of that text is evaluated.\n\nExample:\n  loco eval runs/tiny-1a2b3c4d"
}

func (c *evalCmd) Run(ctx interrupt) error {
	if c.Tokens < 0 {
		return process.Usage(fmt.Errorf("--tokens %d: 0 means all, and nothing is below that", c.Tokens))
	}
	path, err := process.FindCheckpoint(c.Checkpoint)
	if err != nil {
		return err
	}
	l, err := process.LoadModel(path, 8)
	if err != nil {
		return err
	}
	defer l.Close()
	loss, tokens, err := l.HeldoutLoss(ctx, c.Source, c.Tokens)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"checkpoint": path, "round": l.Round(), "heldout_loss": loss, "perplexity": math.Exp(loss), "tokens": tokens,
		})
	}
	fmt.Printf("%s\nround %d, held-out loss %.4f nats per token, perplexity %.3f, over %d tokens\n", path, l.Round(), loss, math.Exp(loss), tokens)
	return nil
}

type generateCmd struct {
	Checkpoint  string  `arg:"" help:"Checkpoint's folder, or a run's folder for its newest."`
	Prompt      string  `help:"Text to continue." default:"func "`
	Tokens      int     `help:"Tokens to generate." default:"400"`
	Temperature float64 `help:"0 takes the most likely token each time; 1 samples from the model's distribution." default:"0.7"`
	TopK        int     `help:"Sample from the K most likely tokens only; 0 = all." default:"40"`
	Seed        uint64  `help:"Seed of the sampling: the same seed, the same text." default:"1"`
}

func (generateCmd) Help() string {
	return "Example:\n  loco generate runs/tiny-1a2b3c4d --prompt 'func main' --tokens 200"
}

const generateTokensMax = 1 << 20

func (c *generateCmd) Run(ctx interrupt) error {
	switch {
	case c.Tokens < 1 || c.Tokens > generateTokensMax:
		return process.Usage(fmt.Errorf("--tokens %d: allowed are 1 to %d", c.Tokens, generateTokensMax))
	case c.Prompt == "":
		return process.Usage(fmt.Errorf("--prompt is empty: give at least one character to continue"))
	}
	path, err := process.FindCheckpoint(c.Checkpoint)
	if err != nil {
		return err
	}
	l, err := process.LoadModel(path, 1)
	if err != nil {
		return err
	}
	defer l.Close()
	err = l.Generate(c.Prompt, c.Tokens, c.Temperature, c.TopK, c.Seed, func(s string) { os.Stdout.WriteString(s) })
	fmt.Println()
	return err
}

type dataCmd struct {
	Inspect dataInspect `cmd:"" help:"Say what a token shard, or the data of a configuration, holds."`
}

type dataInspect struct {
	Path    string   `arg:"" optional:"" help:"Shard, run's folder, or configuration file. Without one: the preset tiny." `
	Set     []string `help:"Override one key of the configuration: table.key=value." placeholder:"TABLE.KEY=VALUE" sep:"none"`
	Samples int      `help:"Windows of text to show." default:"2"`
	JSON    bool     `help:"Print JSON, one object for each shard."`
}

func (dataInspect) Help() string {
	return "Example:\n  loco data inspect runs/tiny-1a2b3c4d\n  loco data inspect --set data.source=DIR"
}

func (c *dataInspect) Run(ctx interrupt) error {
	if c.Samples < 0 || c.Samples > 1000 {
		return process.Usage(fmt.Errorf("--samples %d: allowed are 0 to 1000", c.Samples))
	}
	paths, tokenizer, cleanup, err := c.shards(ctx)
	if err != nil {
		return err
	}
	defer cleanup()
	for _, path := range paths {
		if err := c.inspect(path, tokenizer); err != nil {
			return err
		}
	}
	return nil
}

// isShard says whether a path names a shard file.
func isShard(path string) bool { return filepath.Ext(path) == ".shard" }
