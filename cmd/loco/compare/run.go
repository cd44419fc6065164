package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"loco/worker/config"
)

const keyDigits = 12 // of a variant's key in its folder's name

// Options are what Run needs of its caller, who knows how to train.
type Options struct {
	Dir string // holds a folder for each variant
	// Digest returns the digest of the data that a configuration reads.
	Digest func(context.Context, config.Config) (string, error)
	// Train runs the variant in dir to its end. dir may hold an interrupted run of
	// the same variant, which it goes on with.
	Train func(ctx context.Context, v Variant, dir string) error
	// Progress, when set, is told before and after each variant.
	Progress func(Progress)
}

// Progress says where an experiment stands.
type Progress struct {
	Index, Of int // 0-based number of the variant
	Variant   Variant
	Dir       string
	Phase     Phase
	Err       error // of Failed
}

// Phase is what happens to a variant.
type Phase string

// The phases of a variant.
const (
	Training Phase = "training"
	Reused   Phase = "reused" // finished by an earlier call
	Finished Phase = "finished"
	Failed   Phase = "failed"
)

// Report is the outcome of an experiment, a row for each variant in the file's order.
type Report struct {
	Name string
	Rows []Row
}

// Row is one variant and what it recorded.
type Row struct {
	Variant string
	Share   bool // trained one worker's share of the tokens
	Reused  bool
	Dir     string
	Result  Result
	Err     error // why there is no result
}

// Key is the SHA-256 in hex of everything that a variant's result depends on: what
// makes the run, the data's digest, and how it is evaluated.
func (v *Variant) Key(digest string) string {
	c := &v.Config
	return c.RunID("data.digest="+digest, "run.eval_every="+strconv.Itoa(c.Run.EvalEvery), "run.eval_tokens="+strconv.Itoa(c.Run.EvalTokens))
}

// Folder is the variant's folder below dir. It holds the key, so a finished folder
// can be used again and a changed variant gets a new one.
func (v *Variant) Folder(dir, digest string) string {
	return filepath.Join(dir, v.Name+"-"+v.Key(digest)[:keyDigits])
}

// Run trains the variants that are not finished, one after another, and reads what all
// of them recorded. A variant that fails leaves a row with its error, and the others
// go on; the error returned joins them. When ctx ends, no further one is started.
func (e *Experiment) Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Name: e.Name}
	var failures []error
	for i, v := range e.Variants {
		if ctx.Err() != nil {
			failures = append(failures, fmt.Errorf("compare: stopped before variant %s: %w", v.Name, ctx.Err()))
			break
		}
		p := Progress{Index: i, Of: len(e.Variants), Variant: v}
		row := o.variant(ctx, v, &p)
		if row.Err != nil {
			failures = append(failures, fmt.Errorf("compare: variant %s: %w", v.Name, row.Err))
		}
		report.Rows = append(report.Rows, row)
	}
	return report, errors.Join(failures...)
}

func (o *Options) variant(ctx context.Context, v Variant, p *Progress) Row {
	row := Row{Variant: v.Name, Share: v.Share}
	tell := func(phase Phase) {
		p.Phase, p.Dir, p.Err = phase, row.Dir, row.Err
		if o.Progress != nil {
			o.Progress(*p)
		}
	}
	digest, err := o.Digest(ctx, v.Config)
	if err != nil {
		row.Err = err
		tell(Failed)
		return row
	}
	row.Dir = v.Folder(o.Dir, digest)
	if row.Result, err = finished(row.Dir, &v.Config); err == nil {
		row.Reused = true
		tell(Reused)
		return row
	}
	tell(Training)
	if row.Err = os.MkdirAll(row.Dir, 0o755); row.Err == nil {
		row.Err = o.Train(ctx, v, row.Dir)
	}
	if row.Err == nil {
		row.Result, row.Err = finished(row.Dir, &v.Config)
	}
	if row.Err != nil {
		tell(Failed)
		return row
	}
	tell(Finished)
	return row
}

// finished reads a run and makes sure that it came to its end.
func finished(dir string, c *config.Config) (Result, error) {
	r, err := ReadRun(dir)
	switch {
	case err != nil:
		return Result{}, err
	case !r.Summary.Complete || r.Summary.Rounds < uint64(c.Run.Rounds):
		return Result{}, fmt.Errorf("%s: the run stopped after %d of %d rounds", dir, r.Summary.Rounds, c.Run.Rounds)
	}
	return r, nil
}

// best is the lowest held-out loss of the rows, NaN when there is none.
func (r *Report) best() float64 {
	best := math.NaN()
	for _, row := range r.Rows {
		if x := row.Result.Summary.HeldoutLoss; row.Err == nil && !math.IsNaN(x) && !(x >= best) {
			best = x
		}
	}
	return best
}

// gapPercent is how far a row's loss is above the best, in per cent of the best.
func (r *Report) gapPercent(row *Row) float64 {
	best := r.best()
	return 100 * (row.Result.Summary.HeldoutLoss - best) / best
}
