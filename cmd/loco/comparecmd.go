package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/cmd/loco/compare"
	"loco/trainer/data"
	"loco/worker/config"
	"loco/worker/process"
)

type compareCmd struct {
	File string   `arg:"" help:"Experiment (TOML): a base configuration and a list of variants."`
	Set  []string `help:"Override one key in every variant." placeholder:"TABLE.KEY=VALUE" sep:"none"`
	Dir  string   `help:"Folder of the experiment. Variants finished there are reused. Default: runs/FILE." type:"path"`
	JSON bool     `help:"Print the results as JSON on standard output, progress on standard error."`
}

func (compareCmd) Help() string {
	return `Trains the variants one after another as local runs with the same seed and
token budget, and writes a table, results.csv and curves.png. Started again, it
reuses what is finished.

An experiment:
  base = "tiny"
  set = ["run.rounds=10"]
  [[variant]]
  name = "diloco"
  [[variant]]
  name = "noloco"
  set = ["sync.strategy=noloco"]

Example:
  loco compare exp.toml`
}

func (c *compareCmd) Run(ctx interrupt) error {
	exp, err := compare.Load(c.File, c.Set)
	if errors.Is(err, fs.ErrNotExist) {
		err = process.Usage(err)
	}
	if err != nil {
		return err
	}
	dir := c.Dir
	if dir == "" {
		dir = filepath.Join("runs", strings.TrimSuffix(filepath.Base(c.File), filepath.Ext(c.File)))
	}
	out := os.Stdout
	if c.JSON {
		out = os.Stderr
	}
	digests := map[config.Data]string{}
	report, runErr := exp.Run(ctx, compare.Options{
		Dir: dir,
		Digest: func(ctx context.Context, cfg config.Config) (string, error) {
			return dataDigest(ctx, &cfg, dir, digests)
		},
		Train: func(ctx context.Context, v compare.Variant, dir string) error {
			run := localRun{cfg: &v.Config, dir: dir, out: out, quiet: true}
			s, err := run.run(ctx)
			if err == nil && !s.Complete {
				err = fmt.Errorf("stopped at round %d; start the same command again to go on", s.Rounds)
			}
			return err
		},
		Progress: func(p compare.Progress) {
			fmt.Fprintf(out, "\n[%d/%d] %s: %s\n", p.Index+1, p.Of, p.Variant.Name, p.Phase)
		},
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := report.Save(dir); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := report.WriteTable(out); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n%s\n", filepath.Join(dir, "results.csv"), filepath.Join(dir, "curves.png"))
	if c.JSON && runErr == nil {
		runErr = json.NewEncoder(os.Stdout).Encode(reportJSON(report))
	}
	return runErr
}

// dataDigest prepares a variant's data in the experiment's folder, once for all
// variants that read the same.
func dataDigest(ctx context.Context, cfg *config.Config, dir string, known map[config.Data]string) (string, error) {
	if d, ok := known[cfg.Data]; ok {
		return d, nil
	}
	set, err := data.Prepare(ctx, process.DataOptions(cfg, filepath.Join(dir, "data")))
	if err != nil {
		return "", err
	}
	known[cfg.Data] = set.Digest
	return set.Digest, nil
}

// rowJSON is one variant in the output of --json.
type rowJSON struct {
	Variant     string  `json:"variant"`
	Strategy    string  `json:"strategy"`
	Tokens      uint64  `json:"tokens"`
	HeldoutLoss float64 `json:"heldout_loss"`
	Perplexity  float64 `json:"perplexity"`
	BytesSent   uint64  `json:"bytes_sent"`
	Seconds     float64 `json:"seconds"`
	Share       bool    `json:"share"` // trained one worker's share of the tokens
	Dir         string  `json:"dir"`
}

func reportJSON(r compare.Report) (rows []rowJSON) {
	for _, row := range r.Rows {
		s := row.Result.Summary
		rows = append(rows, rowJSON{row.Variant, s.Strategy, s.Tokens, s.HeldoutLoss, s.Perplexity, s.BytesSent, s.Seconds, row.Share, row.Dir})
	}
	return rows
}
