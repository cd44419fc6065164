package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"loco/gossip/protosim"
)

// chaosCmd runs schedules until its time is over or an invariant fails.
type chaosCmd struct {
	Seconds float64 `default:"10" help:"How long to look for a failure, in seconds."`
	Seed    uint64  `help:"First seed; the next schedules have the seeds after it. Default: random."`
	Replay  uint64  `help:"Run the schedule of this seed alone and print a line for each of its events."`
}

// Help is shown under the command's flags.
func (chaosCmd) Help() string {
	return `A schedule has 2 to 7 workers with a toy model and the protocol of the all-reduce, and links
that delay, lose, overtake, repeat and break, cuts in one or both directions, processes that
stand still, crash and come back with or without their disk, and damaged memory. The
invariants of docs/protocol.md are checked at every event. A schedule follows from its seed.

Example:  loco bench chaos --seconds 60`
}

// Run implements the command.
func (c *chaosCmd) Run() error {
	if c.Replay != 0 {
		return replay(os.Stdout, c.Replay)
	}
	if !(c.Seconds > 0) {
		return usageError{fmt.Errorf("--seconds is %v, want a positive number", c.Seconds)}
	}
	seed := c.Seed
	if seed == 0 {
		seed = uint64(rand.Uint32()) + 1
	}
	return chaos(os.Stdout, seed, time.Duration(c.Seconds*float64(time.Second)))
}

// chaos runs schedules from a seed on for as long as it is told.
func chaos(out io.Writer, seed uint64, lasts time.Duration) error {
	fmt.Fprintf(out, "schedules from seed %d on, for %v\n", seed, lasts)
	began := time.Now()
	var n, messages, forks int
	var rounds uint64
	var virtual time.Duration
	for n == 0 || time.Since(began) < lasts {
		r := protosim.Run(protosim.Options{Seed: seed})
		if r.Err != nil {
			fmt.Fprintf(out, "seed %d, %d workers: %v\nreplay it with a trace:  loco bench chaos --replay %d\n", seed, r.Workers, r.Err, seed)
			return fmt.Errorf("bench chaos: schedule %d of this run breaks an invariant: seed %d", n+1, seed)
		}
		n++
		seed++
		messages, forks, rounds, virtual = messages+r.Messages, forks+r.Forks, rounds+r.Rounds, virtual+r.Virtual
	}
	fmt.Fprintf(out, "%d schedules, %d rounds, %d messages, %.1f h of virtual time: every invariant holds (%d commits were of rounds that cut-off sides both decided)\n",
		n, rounds, messages, virtual.Hours(), forks)
	return nil
}

// replay runs one schedule with a trace.
func replay(out io.Writer, seed uint64) error {
	r := protosim.Run(protosim.Options{Seed: seed, Trace: out})
	if r.Err != nil {
		return fmt.Errorf("bench chaos: seed %d: %w", seed, r.Err)
	}
	fmt.Fprintf(out, "seed %d: %d events, %d rounds, every invariant holds\n", seed, r.Events, r.Rounds)
	return nil
}
