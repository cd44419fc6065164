package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"loco/worker/config"
	"loco/worker/process"
)

// roundsLeast is the shortest run that is planned: fewer rounds teach a model nothing
// that one can see.
const roundsLeast = 20

// pace is what the workers of a run need, in seconds.
type pace struct {
	step     float64 // an inner step, while all workers take theirs
	exchange float64 // an exchange, beyond the steps before it
	eval     float64 // an evaluation
}

// plan is how long a run will be.
type plan struct {
	rounds  int
	seconds float64
	rate    float64 // tokens of all workers in a second
	fits    int     // rounds that run.time has room for, where that is less than rounds
}

// planRun chooses the rounds of a run for the time that its configuration gives it.
func planRun(cfg *config.Config, p pace) plan {
	inner, exchanges := p.step*float64(cfg.Sync.InnerSteps), 1.0
	if cfg.Sync.InnerTime > 0 {
		inner = cfg.Sync.InnerTime.Std().Seconds()
	}
	if cfg.EveryStep() {
		exchanges = float64(cfg.Sync.InnerSteps)
	}
	round := inner + exchanges*p.exchange
	if cfg.Run.EvalEvery > 0 {
		round += p.eval / float64(cfg.Run.EvalEvery)
	}
	fits := (cfg.Run.Time.Std().Seconds() - p.eval) / round // one evaluation is at the end
	least := max(roundsLeast, int(math.Ceil(float64(cfg.ScheduleSteps())/float64(cfg.Sync.InnerSteps))))
	pl := plan{fits: int(max(0, min(fits, float64(cfg.RoundsMost()))))}
	pl.rounds = max(least, pl.fits)
	pl.seconds = float64(pl.rounds)*round + p.eval
	steps := min(float64(cfg.Sync.InnerSteps), inner/p.step) // of a worker in a round
	pl.rate = float64(cfg.Run.Workers) * steps * float64(cfg.TokensPerStep()) / round
	return pl
}

// text says to a person what was planned.
func (p plan) text(cfg *config.Config) string {
	line := fmt.Sprintf("%s: %d rounds of %d steps at %s tok/s measured", about(p.seconds), p.rounds, cfg.Sync.InnerSteps, process.FormatCount(p.rate))
	if p.fits < p.rounds {
		line += fmt.Sprintf("; run.time = %s has room for %d, too few to learn from", cfg.Run.Time, p.fits)
	}
	return line
}

// about is a time span as people say it.
func about(seconds float64) string {
	for _, u := range []struct {
		name    string
		seconds float64
	}{{"day", 24 * 3600}, {"hour", 3600}, {"minute", 60}} {
		if n := math.Round(seconds / u.seconds); n >= 2 {
			return "about " + plural(int(n), u.name)
		}
	}
	return "about " + plural(max(1, int(math.Round(seconds))), "second")
}

// plannedBefore takes over the rounds of a run that the folder holds already: they are
// chosen once, or a run that was interrupted could not go on.
func (l *localRun) plannedBefore() error {
	if l.cfg.Run.Time == 0 {
		return nil
	}
	there, err := config.Load(filepath.Join(l.dir, process.ConfigFile), nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there.Run.Time > 0:
		return nil
	}
	return l.cfg.SetRounds(there.Run.Rounds)
}

// plan measures the run's workers, chooses its rounds, and writes them into its folder,
// where every worker reads them.
func (l *localRun) plan(ctx context.Context) error {
	p, err := l.measure(ctx)
	if err != nil {
		return err
	}
	pl := planRun(l.cfg, p)
	fmt.Fprintf(l.out, "plan: %s\n", pl.text(l.cfg))
	if err := l.cfg.SetRounds(pl.rounds); err != nil {
		return err
	}
	return process.ClaimDir(l.dir, l.cfg, true)
}
