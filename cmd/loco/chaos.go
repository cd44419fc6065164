package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"loco/gossip/protosim"
	"loco/worker/process"
)

// The strategies whose protocols are simulated.
const (
	overEverybody = "diloco"
	overPairs     = "noloco"
)

// chaosCmd runs schedules until its time is over or an invariant fails.
type chaosCmd struct {
	Strategy string  `help:"What is averaged over: everybody, random pairs, or both in turns. A replay needs one of the former." enum:"diloco,noloco,both" default:"both"`
	Seconds  float64 `default:"10" help:"How long to look for a failure, in seconds."`
	Seed     uint64  `help:"First seed; the next schedules have the seeds after it. Default: random."`
	Replay   uint64  `help:"Run the schedule of this seed alone and print a line for each of its events."`
}

// Help is shown under the command's flags.
func (chaosCmd) Help() string {
	return `A schedule has 2 to 7 workers with a toy model and the protocol of the all-reduce (diloco), or
2 to 41 with that of the pair exchange (noloco), and links that delay, lose, overtake, repeat and break, cuts in one or both directions, processes that
stand still, crash and come back with or without their disk, and damaged memory. The
invariants of docs/protocol.md are checked at every event. A schedule follows from its seed.

Example:  loco bench chaos --seconds 60
          loco bench chaos --strategy noloco --replay 7`
}

// Run implements the command.
func (c *chaosCmd) Run() error {
	if c.Replay != 0 {
		if c.Strategy == chaosBoth {
			return process.Usage(fmt.Errorf("--replay %d is of one strategy: add --strategy %s or --strategy %s", c.Replay, overEverybody, overPairs))
		}
		return replay(os.Stdout, c.Strategy, c.Replay)
	}
	if !(c.Seconds > 0) {
		return process.Usage(fmt.Errorf("--seconds is %v, want a positive number", c.Seconds))
	}
	seed := c.Seed
	if seed == 0 {
		seed = uint64(rand.Uint32()) + 1
	}
	return chaos(os.Stdout, c.Strategy, seed, time.Duration(c.Seconds*float64(time.Second)))
}

const chaosBoth = "both"

// tally is what the schedules of one strategy did.
type tally struct {
	protosim.Report
	schedules int
}

func (t *tally) add(r protosim.Report) {
	t.schedules++
	t.Messages, t.Forks, t.Rounds, t.Virtual = t.Messages+r.Messages, t.Forks+r.Forks, t.Rounds+r.Rounds, t.Virtual+r.Virtual
	t.Pairs.Averaged, t.Pairs.Alone = t.Pairs.Averaged+r.Pairs.Averaged, t.Pairs.Alone+r.Pairs.Alone
	t.Pairs.Torn, t.Pairs.OneSided = t.Pairs.Torn+r.Pairs.Torn, t.Pairs.OneSided+r.Pairs.OneSided
}

// chaos runs schedules from a seed on for as long as it is told.
func chaos(out io.Writer, strategy string, seed uint64, lasts time.Duration) error {
	kinds := []string{strategy}
	if strategy == chaosBoth {
		kinds = []string{overEverybody, overPairs}
	}
	fmt.Fprintf(out, "schedules from seed %d on, for %v\n", seed, lasts)
	began := time.Now()
	tallies := make([]tally, len(kinds))
	for n := 0; n == 0 || time.Since(began) < lasts; n++ {
		for k, kind := range kinds {
			r := protosim.Run(protosim.Options{Seed: seed, Pairs: kind == overPairs})
			if r.Err != nil {
				fmt.Fprintf(out, "%s, seed %d, %d workers: %v\nreplay it with a trace:  loco bench chaos --strategy %s --replay %d\n", kind, seed, r.Workers, r.Err, kind, seed)
				return fmt.Errorf("bench chaos: schedule %d of this run breaks an invariant: %s, seed %d", n+1, kind, seed)
			}
			tallies[k].add(r)
		}
		seed++
	}
	for k, kind := range kinds {
		t := &tallies[k]
		fmt.Fprintf(out, "%s: %d schedules, %d rounds, %d messages, %.1f h of virtual time: every invariant holds ",
			kind, t.schedules, t.Rounds, t.Messages, t.Virtual.Hours())
		if kind == overPairs {
			fmt.Fprintf(out, "(%d times a pair averaged, %d times a worker was alone, %d times of those in doubt, %d of which were one-sided)\n",
				t.Pairs.Averaged, t.Pairs.Alone, t.Pairs.Torn, t.Pairs.OneSided)
			continue
		}
		fmt.Fprintf(out, "(%d commits were of rounds that cut-off sides both decided)\n", t.Forks)
	}
	return nil
}

// replay runs one schedule with a trace.
func replay(out io.Writer, strategy string, seed uint64) error {
	r := protosim.Run(protosim.Options{Seed: seed, Trace: out, Pairs: strategy == overPairs})
	if r.Err != nil {
		return fmt.Errorf("bench chaos: %s, seed %d: %w", strategy, seed, r.Err)
	}
	fmt.Fprintf(out, "%s, seed %d: %d events, %d rounds, every invariant holds\n", strategy, seed, r.Events, r.Rounds)
	return nil
}
