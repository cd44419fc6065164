package config

import (
	"errors"
	"fmt"
	"math/bits"
	"net"
	"slices"
	"strconv"
	"strings"

	"loco/trainer/data"
	"loco/trainer/strategy"
)

// maxTokens bounds the run's tokens so that every count fits 64 bits.
const maxTokens = 1e18

// roundsMax is the upper end of run.rounds.
const roundsMax = 10_000_000

// finding is something wrong that involves these keys; the first one says where to
// report it when none was set later than the others.
type finding struct {
	keys []string
	why  string
}

// Validate reports every value out of its bounds and every contradiction, as *Error.
func (c *Config) Validate() error {
	var problems []Problem
	for _, f := range c.check() {
		for _, k := range Keys() {
			if k.Name == f.keys[0] {
				problems = append(problems, Problem{Key: k.Name, Value: k.Text(c), Why: f.why})
			}
		}
	}
	if problems == nil {
		return nil
	}
	return &Error{problems}
}

// check first looks at each value alone; contradictions between values are only
// looked for among values that are fine by themselves.
func (c *Config) check() []finding {
	var found []finding
	bad := map[string]bool{}
	for _, k := range Keys() {
		if why := k.check(c); why != "" {
			found = append(found, finding{[]string{k.Name}, why})
			bad[k.Name] = true
		}
	}
	for _, rule := range rules() {
		ok := true
		for _, name := range rule.keys {
			ok = ok && !bad[name]
		}
		if !ok {
			continue
		}
		if why := rule.check(c); why != "" {
			found = append(found, finding{rule.keys, why})
		}
	}
	var wrong *strategy.OptionError
	if _, err := c.Row(); errors.As(err, &wrong) {
		var keys []string
		for _, key := range wrong.Keys {
			keys = append(keys, "sync."+key)
		}
		if !slices.ContainsFunc(keys, func(key string) bool { return bad[key] }) {
			found = append(found, finding{append(keys, "sync.strategy"), wrong.Why})
		}
	}
	return found
}

// ScheduleSteps is the least steps that the schedule of the learning rate has room in.
func (c *Config) ScheduleSteps() uint64 {
	if c.Inner.Schedule == "wsd" {
		return uint64(c.Inner.Warmup) + uint64(c.Inner.Decay)
	}
	return uint64(c.Inner.Warmup)
}

type rule struct {
	keys  []string
	check func(c *Config) string // what is wrong, "" for nothing
}

func rules() []rule {
	return slices.Concat(runRules(), syncRules(), placeRules())
}

func (c *Config) carries() bool {
	row, _ := c.Row()
	return row.Carries
}

func (c *Config) equalReplicas() bool {
	row, _ := c.Row()
	return row.Equal
}

func runRules() []rule {
	return []rule{
		{[]string{"run.name"}, func(c *Config) string { return checkName(c.Run.Name) }},
		{[]string{"run.eval_tokens", "model.context"}, func(c *Config) string {
			return unless(c.Run.EvalTokens >= c.Model.Context, "must be at least one sequence, model.context = %d", c.Model.Context)
		}},
		{[]string{"model.heads", "model.width"}, func(c *Config) string {
			if c.Model.Width%c.Model.Heads != 0 {
				return fmt.Sprintf("model.heads = %d must divide model.width = %d", c.Model.Heads, c.Model.Width)
			}
			size := c.Model.Width / c.Model.Heads
			return unless(size%2 == 0, "the size of a head, model.width / model.heads = %d, must be even: RoPE turns pairs of values", size)
		}},
		{[]string{"model.kv_heads", "model.heads"}, func(c *Config) string {
			return unless(c.Model.Heads%c.Model.KVHeads == 0, "model.kv_heads = %d must divide model.heads = %d", c.Model.KVHeads, c.Model.Heads)
		}},
		{[]string{"model.vocab", "data.tokenizer"}, func(c *Config) string {
			t, err := data.TokenizerByName(c.Data.Tokenizer)
			if err != nil {
				return err.Error()
			}
			return unless(c.Model.Vocab >= t.Vocab(), "data.tokenizer = %s needs at least %d", t.Name(), t.Vocab())
		}},
		{[]string{"data.source"}, func(c *Config) string {
			return unless(c.Data.Source != "", "must be a folder, a file, or go for the source of Go's standard library")
		}},
		{[]string{"inner.micro_batch", "inner.batch", "inner.devices"}, func(c *Config) string { return c.checkShares() }},
		{[]string{"inner.device"}, func(c *Config) string { return checkDevice(c.Inner.Device) }},
		{[]string{"inner.devices", "inner.device"}, func(c *Config) string {
			return unless(len(c.Inner.Devices) == 0 || c.Inner.Device == Auto, "names the devices already: inner.device must be auto, it is %s", c.Inner.Device)
		}},
		{[]string{"inner.warmup", "inner.decay", "run.rounds", "sync.inner_steps", "inner.schedule"}, func(c *Config) string {
			total, needed, sum := c.TotalSteps(), c.ScheduleSteps(), "inner.warmup"
			if c.Inner.Schedule == "wsd" {
				sum = "inner.warmup + inner.decay"
			}
			return unless(needed <= total || c.Run.Time > 0, "%s = %d must be at most the run's %d steps (run.rounds x sync.inner_steps)", sum, needed, total)
		}},
		{[]string{"run.rounds", "run.workers", "sync.inner_steps", "inner.batch", "model.context"}, func(c *Config) string {
			total := uint64(1)
			for _, n := range []int{c.Run.Rounds, c.Run.Workers, c.Sync.InnerSteps, c.Inner.Batch, c.Model.Context} {
				overflow, product := bits.Mul64(total, uint64(n))
				if overflow > 0 || product > maxTokens {
					return "run.workers x run.rounds x sync.inner_steps x inner.batch x model.context must be at most 1e18 tokens"
				}
				total = product
			}
			return ""
		}},
	}
}

func syncRules() []rule {
	return []rule{
		{[]string{"run.workers", "sync.strategy"}, func(c *Config) string {
			return unless(c.Exchanging() || c.Run.Workers == 1, "sync.strategy = %s trains one worker: run.workers must be 1, it is %d", c.Sync.Strategy, c.Run.Workers)
		}},
		{[]string{"sync.grace", "sync.deadline"}, func(c *Config) string {
			return unless(c.Sync.Grace <= c.Sync.Deadline, "sync.grace = %s must be at most sync.deadline = %s", Duration(c.Sync.Grace), Duration(c.Sync.Deadline))
		}},
		{[]string{"sync.inner_time", "sync.strategy"}, func(c *Config) string {
			return unless(c.Sync.InnerTime == 0 || !c.EveryStep(), "sync.inner_time = %s has no meaning for %s, which exchanges at every step: leave it at 0s", c.Sync.InnerTime, c.Sync.Strategy)
		}},
		{[]string{"sync.slow_cycle", "sync.strategy"}, func(c *Config) string {
			return unless(c.Sync.SlowCycle == 1 || c.carries() || !c.Exchanging(), "sync.slow_cycle = %d is for diloco, whose steps can be put on top of another state, not for %s: leave it at 1", c.Sync.SlowCycle, c.Sync.Strategy)
		}},
		{[]string{"sync.quorum", "sync.strategy"}, func(c *Config) string {
			return unless(c.Sync.Quorum != Majority || c.equalReplicas(), "sync.quorum = majority is for strategies whose replicas are equal, not for %s", c.Sync.Strategy)
		}},
		{[]string{"mesh.suspect_after", "mesh.heartbeat"}, func(c *Config) string {
			return unless(c.Mesh.SuspectAfter > c.Mesh.Heartbeat, "mesh.suspect_after = %s must be longer than mesh.heartbeat = %s, or every member is suspect", Duration(c.Mesh.SuspectAfter), Duration(c.Mesh.Heartbeat))
		}},
		{[]string{"mesh.dead_after", "mesh.suspect_after"}, func(c *Config) string {
			return unless(c.Mesh.DeadAfter > c.Mesh.SuspectAfter, "mesh.dead_after = %s must be longer than mesh.suspect_after = %s", Duration(c.Mesh.DeadAfter), Duration(c.Mesh.SuspectAfter))
		}},
		{[]string{"mesh.suspect_min", "mesh.suspect_after"}, func(c *Config) string {
			return unless(c.Mesh.SuspectMin <= c.Mesh.SuspectAfter, "mesh.suspect_min = %s must be at most mesh.suspect_after = %s", Duration(c.Mesh.SuspectMin), Duration(c.Mesh.SuspectAfter))
		}},
		{[]string{"mesh.dead_min", "mesh.dead_after"}, func(c *Config) string {
			return unless(c.Mesh.DeadMin <= c.Mesh.DeadAfter, "mesh.dead_min = %s must be at most mesh.dead_after = %s", Duration(c.Mesh.DeadMin), Duration(c.Mesh.DeadAfter))
		}},
	}
}

func placeRules() []rule {
	return []rule{
		{[]string{"mesh.listen"}, func(c *Config) string {
			if len(c.Mesh.Listen) == 0 {
				return `must hold at least one address, such as "/ip4/0.0.0.0/tcp/0"`
			}
			return checkAddrs(c.Mesh.Listen, false)
		}},
		{[]string{"mesh.join"}, func(c *Config) string { return checkAddrs(c.Mesh.Join, true) }},
		{[]string{"metrics.listen"}, func(c *Config) string {
			if c.Metrics.Listen == "" {
				return ""
			}
			_, port, err := net.SplitHostPort(c.Metrics.Listen)
			if err == nil {
				_, err = strconv.ParseUint(port, 10, 16)
			}
			return unless(err == nil, `must be host:port with a port from 0 to 65535, such as "127.0.0.1:9090", or empty`)
		}},
	}
}

func unless(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func checkName(name string) string {
	plain := len(name) >= 1 && len(name) <= 64 && name[0] != '.' && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
	return unless(plain, "must be 1 to 64 letters, digits, dots, dashes or underscores, and not start with a dot")
}

// checkAddrs looks at the outside of multiaddresses; the mesh parses them.
func checkAddrs(addrs []string, peer bool) string {
	for i, a := range addrs {
		switch {
		case !strings.HasPrefix(a, "/"):
			return fmt.Sprintf("item %d, %q, must be a multiaddress such as /ip4/192.0.2.1/tcp/4001", i+1, a)
		case peer && !strings.Contains(a, "/p2p/"):
			return fmt.Sprintf("item %d, %q, must end in /p2p/ and the ID of the peer", i+1, a)
		}
	}
	return ""
}
