package swim

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// maxMembers bounds how many peers are remembered at a time.
const maxMembers = 4096

// Config are the times of the state machine. Those of one run may differ.
type Config struct {
	// Heartbeat is how often a member says its status; the others may do it less often.
	Heartbeat time.Duration `toml:"heartbeat" id:"-" range:"50ms..1h" doc:"Time between two status messages of a member; each makes every member send about 2 KB."`
	// ProbeEvery is the period of probes: one member is probed in each, directly for a
	// tenth to half of it, as its round trips were, and through others for the rest.
	ProbeEvery time.Duration `toml:"probe_every" id:"-" range:"50ms..1h" doc:"Time between two probes. A member asks another, in turn, whether it is there, and others in its place if no answer comes within a tenth to half of this, as its answers were before. About 200 bytes each."`
	// SuspectMin and SuspectAfter are the floor and the cap of the silence after which a
	// member is suspect. An unanswered probe counts from the floor on.
	SuspectMin   time.Duration `toml:"suspect_min" id:"-" range:"0s..24h" doc:"Floor of the silence after which a member is suspect. 0: two probes."`
	SuspectAfter time.Duration `toml:"suspect_after" id:"-" range:"100ms..24h" doc:"Cap of that silence; between the two it is the median + 4 deviations of the times between a member's heartbeats. A suspect is still counted, but not waited for beyond sync.grace."`
	// DeadMin and DeadAfter are the floor and the cap of how long a member is suspect
	// before it is dead: a period for each doubling of the members, in which the news
	// comes around, and the silence that is usual for it. A member that is silent for
	// DeadAfter is dead.
	DeadMin   time.Duration `toml:"dead_min" id:"-" range:"0s..168h" doc:"Floor of the time that a member is suspect, with no sign of life to anybody, before it is dead. 0: a third of dead_after."`
	DeadAfter time.Duration `toml:"dead_after" id:"-" range:"200ms..168h" doc:"Cap of that time, and of any silence: groups form without a member that is dead. It comes back by itself."`
	// DeadAfterRefused is how long the addresses of a member may refuse.
	DeadAfterRefused time.Duration `toml:"dead_after_refused" id:"-" range:"10ms..1h" doc:"How long the addresses of a member may refuse connections before it is dead: its process is gone, or a router on its way restarts."`
	// Forget is how long a dead or departed member is remembered.
	Forget time.Duration `toml:"forget" id:"-" range:"1s..8760h" doc:"How long a member that is dead is dialed, and shown. After that it has to join anew."`
	// Seed makes the order of probes.
	Seed uint64 `toml:"-"`
}

// Detection is the shortest silence after which others may call a healthy member dead. It is
// suspect after an unanswered probe and the floor of the silence, and dead when the others'
// patience ends, which is shortest in the smallest run and with the calmest heartbeats.
// Addresses that refuse are not silence: the process is gone.
func (c Config) Detection() time.Duration {
	suspect := max(c.ProbeEvery, c.SuspectMin)
	return min(suspect+c.patience(2, c.SuspectMin), c.DeadAfter)
}

// patience is how long a member may be accused before it is dead. silence is how long it may
// be silent before it is suspect.
func (c Config) patience(members int, silence time.Duration) time.Duration {
	around := time.Duration(bits.Len(uint(members))) * c.ProbeEvery
	return min(max(around+silence, c.DeadMin), c.DeadAfter)
}

// Validate reports the first thing that is wrong.
func (c Config) Validate() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"heartbeat", c.Heartbeat}, {"probe every", c.ProbeEvery}, {"suspect min", c.SuspectMin}, {"suspect after", c.SuspectAfter},
		{"dead min", c.DeadMin}, {"dead after", c.DeadAfter}, {"dead after refused", c.DeadAfterRefused}, {"forget", c.Forget},
	} {
		if d.value <= 0 {
			return fmt.Errorf("%s of %v: must be positive", d.name, d.value)
		}
	}
	if c.SuspectAfter <= c.Heartbeat || c.DeadAfter <= c.SuspectAfter {
		return fmt.Errorf("heartbeat %v, suspect after %v, dead after %v: each must be longer than the one before", c.Heartbeat, c.SuspectAfter, c.DeadAfter)
	}
	if c.SuspectMin > c.SuspectAfter || c.DeadMin > c.DeadAfter {
		return errors.New("a floor is above its cap: want suspect min <= suspect after and dead min <= dead after")
	}
	return nil
}
