package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"loco/cmd/loco/bench"
	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer"
	"loco/worker/process"
)

type benchCmd struct {
	Kernels benchKernels `cmd:"" help:"Each kernel's rate beside this machine's own limits, and which path computes and why."`
	Chaos   chaosCmd     `cmd:"" help:"Random schedules of faults against the round protocol, in virtual time."`
}

type benchKernels struct {
	Threads    int      `help:"Threads to compute with; 0 = all that Go may use." default:"0"`
	Precision  string   `help:"What matrices are multiplied in: ${enum}." enum:"auto,fp32,bf16" default:"auto"`
	Seconds    float64  `help:"Time for all of it. What does not fit is left out and named." default:"15"`
	Only       []string `help:"Run only the cases whose kernel and shape contain this; may be repeated." placeholder:"NAME" sep:"none"`
	Parameters int      `help:"Length of the vectors of AdamW, squared norm and add." default:"${benchParameters}"`
	JSON       bool     `help:"Print JSON."`
}

func (benchKernels) Help() string {
	return `Every kernel is timed in turns with the limit that it is compared with: the fused
multiply-adds (FMA) that the same threads do on registers, in products the
multiplications of their precision (multiply), or memory of the same size,
read (r), updated (u) and written (w) in the same mix. Figures are medians. Shapes of
matmul are rows x outputs x inputs.

A step of a model of 124M parameters takes 3 GB and runs where it is named only:
--only 'step 123.6M'.

Example:
  loco bench kernels
  loco bench kernels --threads 1 --only 'matmul forward' --only adamw --seconds 5`
}

// Limits of the flags.
const (
	benchSecondsMin, benchSecondsMax = 0.01, 3600
	benchParametersMax               = 1 << 31
)

func (c *benchKernels) Run(ctx interrupt) error { return c.run(ctx, os.Stdout) }

func (c *benchKernels) run(ctx context.Context, w io.Writer) error {
	switch {
	case !(c.Seconds >= benchSecondsMin && c.Seconds <= benchSecondsMax): // NaN, too
		return process.Usage(fmt.Errorf("--seconds %v: allowed are %v to %v", c.Seconds, benchSecondsMin, benchSecondsMax))
	case c.Parameters < 1 || c.Parameters > benchParametersMax:
		return process.Usage(fmt.Errorf("--parameters %d: allowed are 1 to %d", c.Parameters, benchParametersMax))
	}
	d, err := cpu.New(c.Threads, kernels.Precision(c.Precision))
	if err != nil {
		return process.Usage(fmt.Errorf("--threads %d --precision %s: %w", c.Threads, c.Precision, err))
	}
	defer d.Close()
	var head func(bench.Machine)
	var row func(bench.Result)
	if !c.JSON {
		head = func(m bench.Machine) {
			m.Write(w)
			fmt.Fprintln(w)
			bench.WriteHeadings(w)
		}
		row = func(r bench.Result) { r.Write(w) }
	}
	cases := bench.Cases(bench.Standard(c.Parameters))
	report, err := bench.Run(ctx, d, cases, bench.Options{Seconds: c.Seconds, Only: c.Only}, head, row)
	switch {
	case errors.Is(err, context.Canceled):
		return trainer.ErrStopped
	case errors.Is(err, bench.ErrNoCase):
		return process.Usage(fmt.Errorf("--only: %w", err))
	case err != nil:
		return err
	}
	if c.JSON {
		return json.NewEncoder(w).Encode(report)
	}
	report.WriteFoot(w)
	return nil
}
