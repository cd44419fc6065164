// Command loco trains one model on many machines that are far apart.
//
// It holds the commands, the supervisor of a local run, and what people see. A worker
// itself is package loco/worker/process.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"loco/cmd/loco/bench"
	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// Exit codes.
const (
	exitOK    = 0
	exitWork  = 1 // the work failed
	exitUsage = 2 // usage or configuration
)

type cli struct {
	Run        runCmd        `cmd:"" help:"Train with several worker processes on this machine, watched to the end."`
	Worker     workerCmd     `cmd:"" help:"Be one worker of a run."`
	Compare    compareCmd    `cmd:"" help:"Train variants one after another and compare them."`
	Eval       evalCmd       `cmd:"" help:"Loss and perplexity of a checkpoint on held-out data."`
	Generate   generateCmd   `cmd:"" help:"Text from a checkpoint."`
	Checkpoint checkpointCmd `cmd:"" help:"List or verify checkpoints."`
	Config     configCmd     `cmd:"" help:"Show or check a configuration, or print a preset."`
	Data       dataCmd       `cmd:"" help:"Inspect training data."`
	Bench      benchCmd      `cmd:"" help:"Measure what this machine reaches, or look for failures of the round protocol."`
}

const description = `loco trains one model on many machines that are far apart.

Each worker takes many optimizer steps alone, then exchanges a compressed
pseudo-gradient with all others (diloco) or with one random peer (noloco).

Example:  loco run`

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("loco"), kong.Description(description),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"presets": presetNames(), "benchParameters": strconv.Itoa(bench.ParametersDefault)})
	if err != nil {
		fmt.Fprintln(os.Stderr, "loco:", err)
		return exitWork
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "loco: %v\nTry: loco --help\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch command, _, _ := strings.Cut(kctx.Command(), " "); command {
	case "run", "worker", "compare", "bench": // the others just end
		// The first signal asks for a clean stop. A second one ends the process,
		// because the handler is gone by then.
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-signals
			signal.Stop(signals)
			cancel()
		}()
	}
	return exitCode(kctx.Run(interrupt{ctx}))
}

// interrupt is given to commands: its context ends at the first Ctrl-C or SIGTERM.
type interrupt struct{ context.Context }

func exitCode(err error) int {
	var usage *process.UsageError
	var cfg *config.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &cfg), errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	case errors.Is(err, trainer.ErrStopped): // asked for, and reported already
		return exitOK
	default:
		fmt.Fprintln(os.Stderr, "loco:", err)
		return exitWork
	}
}

func presetNames() string {
	var names []string
	for _, p := range config.Presets() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
