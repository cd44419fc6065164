// Package compare puts variants of one run beside each other: it reads an experiment,
// has the variants trained that are not there yet, and makes a table, a CSV file and a
// chart of what they recorded.
//
// An experiment is a TOML file:
//
//	name = "strategies"          # text: title of the chart; default the file's name
//	base = "run.toml"            # a preset, or a file beside this one; default tiny
//	set = ["run.rounds=30"]      # overrides for every variant
//	budget = "total"             # or "per-worker": which tokens must be equal
//
//	[[variant]]
//	name = "noloco"              # text: row, legend and folder
//	set = ["sync.strategy=noloco"]
//
// # What makes it fair
//
// Variants must have the same run.seed, [data] and run.eval_tokens, and the same token
// budget: in total (workers × steps × batch × context), or, with budget =
// "per-worker", for each worker. One exception: under a total budget a variant with
// sync.strategy = alone may train one worker's share, because what a worker reaches by
// itself is the line that the others must beat. Such a row is marked. Runs whose rounds
// have a time instead of a number of steps (sync.inner_time) have no budget of tokens, and
// are refused; so are runs that have a time instead of a number of rounds (run.time). Where
// nothing sets run.rounds, every variant takes the default's, on any machine.
package compare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"loco/worker/config"
)

const variantsMax = 64

// The values of budget.
const (
	Total     = "total"
	PerWorker = "per-worker"
)

// Experiment is a set of variants that may be compared.
type Experiment struct {
	Name     string
	Budget   string
	Variants []Variant
}

// Variant is one run of an experiment.
type Variant struct {
	Name   string
	Sets   []string // every override on the base, in order
	Config config.Config
	Share  bool // trains one worker's share of the budget

	where string // "exp.toml:12"
}

// Load reads an experiment. sets come after its own overrides, for every variant.
// Everything that is wrong is in one *config.Error.
func Load(path string, sets []string) (*Experiment, error) {
	doc, err := config.ReadDocument(path)
	if err != nil {
		return nil, err
	}
	return read(doc, filepath.Dir(path), sets)
}

// reader gathers the problems of one file.
type reader struct {
	doc      *config.Document
	problems []config.Problem
}

func (r *reader) problem(key, format string, args ...any) {
	r.problems = append(r.problems, config.Problem{Where: r.doc.Where(key), Key: key, Why: fmt.Sprintf(format, args...)})
}

func read(doc *config.Document, dir string, sets []string) (*Experiment, error) {
	r := &reader{doc: doc}
	title := strings.TrimSuffix(filepath.Base(doc.Name), ".toml")
	e := &Experiment{Name: r.text(doc.Values, "", "name", title), Budget: r.text(doc.Values, "", "budget", Total)}
	if e.Budget != Total && e.Budget != PerWorker {
		r.problem("budget", "%q: must be %s or %s", e.Budget, Total, PerWorker)
	}
	base := r.text(doc.Values, "", "base", "tiny")
	common := r.texts(doc.Values, "", "set")
	r.onlyKeys(doc.Values, "", "name", "base", "set", "budget", "variant")

	list, ok := doc.Values["variant"].([]any)
	if !ok || len(list) == 0 || len(list) > variantsMax {
		r.problem("variant", "an experiment needs 1 to %d tables [[variant]], each with a name and a list set", variantsMax)
		list = nil
	}
	for i, item := range list {
		key := fmt.Sprintf("variant.%d", i)
		table, ok := item.(map[string]any)
		if !ok {
			r.problem("variant", "must be written as [[variant]]")
			break
		}
		v := Variant{Name: r.text(table, key, "name", ""), where: doc.Where(key)}
		if !plainName(v.Name) {
			r.problem(key+".name", "%q: a variant needs a name of 1 to 64 letters, digits, dots, dashes or underscores that does not start with a dot", v.Name)
		}
		if slices.ContainsFunc(e.Variants, func(o Variant) bool { return strings.EqualFold(o.Name, v.Name) }) {
			r.problem(key+".name", "%q: another variant has this name", v.Name)
		}
		v.Sets = slices.Concat(common, r.texts(table, key, "set"), sets)
		r.onlyKeys(table, key, "name", "set")
		r.configure(&v, base, dir, doc.Where(key+".set"))
		e.Variants = append(e.Variants, v)
	}
	if len(r.problems) == 0 {
		r.fair(e)
	}
	if len(r.problems) > 0 {
		return nil, &config.Error{Problems: r.problems}
	}
	return e, nil
}

// configure builds the variant's configuration; what is wrong with it is reported at
// the variant's line.
func (r *reader) configure(v *Variant, base, dir, where string) {
	var err error
	if slices.ContainsFunc(config.Presets(), func(p config.Info) bool { return p.Name == base }) {
		v.Config, err = config.LoadPreset(base, v.Sets)
	} else {
		path := base
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		v.Config, err = config.Load(path, v.Sets)
	}
	var mistakes *config.Error
	switch {
	case errors.As(err, &mistakes):
		for _, p := range mistakes.Problems {
			if p.Where == "--set" {
				p.Where = where + ": variant " + v.Name
			} else {
				p.Where = where + ": variant " + v.Name + ": " + p.Where
			}
			r.problems = append(r.problems, p)
		}
	case errors.Is(err, os.ErrNotExist):
		r.problem("base", "%q is neither a preset nor a file: %v", base, err)
	case err != nil:
		r.problem("base", "%v", err)
	}
	if c := &v.Config; err == nil && c.Run.Time == config.Default().Run.Time {
		if err := c.SetRounds(c.Run.Rounds); err != nil {
			r.problems = append(r.problems, config.Problem{Where: where, Why: "variant " + v.Name + ": " + err.Error()})
		}
	}
}

// fair checks what the package comment promises.
func (r *reader) fair(e *Experiment) {
	tokens := func(v *Variant) uint64 {
		if e.Budget == PerWorker {
			return v.Config.TokensPerWorker()
		}
		return v.Config.TotalTokens()
	}
	ref := &e.Variants[0]
	for i := range e.Variants { // one that has company sets the budget
		if v := &e.Variants[i]; v.Config.Exchanging() {
			ref = v
			break
		}
	}
	for i := range e.Variants {
		v := &e.Variants[i]
		unfair := func(format string, args ...any) {
			r.problems = append(r.problems, config.Problem{Where: v.where, Why: "variant " + v.Name + ": " + fmt.Sprintf(format, args...)})
		}
		a, b := &v.Config, &ref.Config
		if a.Run.Seed != b.Run.Seed {
			unfair("run.seed = %d, variant %s has %d: the seed must be the same", a.Run.Seed, ref.Name, b.Run.Seed)
		}
		if a.Data != b.Data || a.Run.EvalTokens != b.Run.EvalTokens {
			unfair("[data] and run.eval_tokens must be those of variant %s, or the losses are of different texts", ref.Name)
		}
		if a.Run.Time > 0 {
			unfair("run.time = %s: how many tokens it trains depends on the machine, so no budget is equal; set run.rounds", a.Run.Time)
			continue
		}
		if a.Sync.InnerTime > 0 {
			unfair("sync.inner_time = %s: how many tokens it trains depends on the machine, so no budget is equal; leave it at 0s", a.Sync.InnerTime)
			continue
		}
		got, want := tokens(v), tokens(ref)
		if got == want {
			continue
		}
		if e.Budget == Total && !a.Exchanging() && got == b.TokensPerWorker() {
			v.Share = true
			continue
		}
		unfair("trains %d tokens, variant %s trains %d (budget = %q: workers x rounds x inner_steps x batch x context; change run.rounds or inner.batch)", got, ref.Name, want, e.Budget)
	}
}

func (r *reader) text(table map[string]any, prefix, key, fallback string) string {
	raw, ok := table[key]
	if !ok {
		return fallback
	}
	s, ok := raw.(string)
	if !ok || s == "" || len(s) > 1024 {
		r.problem(join(prefix, key), "must be a text of 1 to 1024 bytes")
		return fallback
	}
	return s
}

func (r *reader) texts(table map[string]any, prefix, key string) (list []string) {
	raw, ok := table[key]
	if !ok {
		return nil
	}
	items, ok := raw.([]any)
	if !ok || len(items) > 256 {
		r.problem(join(prefix, key), `must be a list of at most 256 texts, such as ["sync.strategy=noloco"]`)
		return nil
	}
	for i, item := range items {
		s, ok := item.(string)
		if !ok {
			r.problem(join(prefix, key), `item %d must be a text such as "sync.strategy=noloco"`, i+1)
			continue
		}
		list = append(list, s)
	}
	return list
}

func (r *reader) onlyKeys(table map[string]any, prefix string, allowed ...string) {
	var unknown []string
	for key := range table {
		if !slices.Contains(allowed, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		r.problem(join(prefix, key), "unknown key; allowed: %s", strings.Join(allowed, ", "))
	}
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

func plainName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}
