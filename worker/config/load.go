package config

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"loco/trainer/strategy"
)

// Load reads a configuration: the preset the file names (or [Default]), the file, then
// the "table.key=value" texts of sets. path "" is no file. Everything that is wrong
// is in one *Error; another type of error means that the file could not be read.
func Load(path string, sets []string) (Config, error) {
	var doc *Document
	if path != "" {
		var err error
		if doc, err = ReadDocument(path); err != nil {
			return Config{}, err
		}
	}
	return build(doc, "", sets)
}

// Parse is Load of a file's bytes; name stands for the path in messages.
func Parse(name string, data []byte, sets []string) (Config, error) {
	doc, err := ParseDocument(name, data)
	if err != nil {
		return Config{}, err
	}
	return build(doc, "", sets)
}

// LoadPreset is Load with a preset in place of a file.
func LoadPreset(name string, sets []string) (Config, error) { return build(nil, name, sets) }

func build(doc *Document, preset string, sets []string) (Config, error) {
	if preset == "" {
		preset = defaultPreset
	}
	l := &loader{keys: Keys(), origins: map[string]origin{}}
	if doc != nil {
		preset = l.presetOf(doc, preset)
	}
	if !l.startFrom(preset) {
		l.problem("", "preset", quote(preset), unknownPreset(preset))
		l.startFrom(defaultPreset)
	}
	if doc != nil {
		l.layer(func() { l.readFile(doc) })
	}
	l.layer(func() {
		for _, set := range sets {
			l.readSet(set)
		}
	})
	if l.cfg.Run.Time > 0 {
		l.cfg.Run.Rounds = Default().Run.Rounds
	}
	// A value of the wrong type left its key as it was, so nothing is said about that
	// key twice.
	for _, f := range l.cfg.check() {
		if slices.ContainsFunc(f.keys, func(name string) bool { return l.broken[name] }) {
			continue
		}
		key, where := l.locate(f.keys)
		l.problem(where, key.Name, key.Text(&l.cfg), f.why)
	}
	if len(l.problems) > 0 {
		return Config{}, &Error{l.sorted()}
	}
	return l.cfg, nil
}

// loader builds a Config layer by layer and remembers where each value came from.
type loader struct {
	cfg      Config
	keys     []Key
	layers   int
	origins  map[string]origin // of keys that are not the preset's
	broken   map[string]bool   // keys whose text or type was wrong
	preset   string
	problems []Problem
}

type origin struct {
	where string
	layer int
}

func (l *loader) problem(where, key, value, why string) {
	if len(value) > 80 {
		value = strings.ToValidUTF8(value[:77], "") + "..."
	}
	l.problems = append(l.problems, Problem{where, key, value, why})
}

func (l *loader) startFrom(preset string) bool {
	cfg, ok := presetConfig(preset)
	if ok {
		l.cfg, l.preset = cfg, preset
	}
	return ok
}

// presetOf returns the preset that the file builds on.
func (l *loader) presetOf(doc *Document, fallback string) string {
	raw, ok := doc.Values["preset"]
	if !ok {
		return fallback
	}
	name, ok := raw.(string)
	if !ok {
		l.problem(doc.Where("preset"), "preset", shortText(raw), "has type "+tomlKind(raw)+"; allowed: the name of a preset: "+strings.Join(presetNames(), ", "))
		return fallback
	}
	if _, ok := presetConfig(name); !ok {
		l.problem(doc.Where("preset"), "preset", quote(name), unknownPreset(name))
		return fallback
	}
	return name
}

// layer runs one layer's assignments. Then run.rounds, where it was set, ends run.time, and
// the keys that follow the strategy follow it (package comment).
func (l *loader) layer(assign func()) {
	before := l.cfg.Sync.Strategy
	l.layers++
	assign()
	if l.origins["run.rounds"].layer == l.layers {
		l.cfg.Run.Time = 0
	}
	after := l.cfg.Sync.Strategy
	if before == after {
		return
	}
	old, now := strategy.Defaults(before), strategy.Defaults(after)
	preset, _ := presetConfig(l.preset)
	for _, k := range l.keys {
		key, _ := strings.CutPrefix(k.Name, "sync.")
		if _, follows := now[key]; !follows || k.Table != "sync" || l.origins[k.Name].layer == l.layers {
			continue
		}
		value := k.value(&l.cfg).Interface()
		tuned := k.Name != "sync.codec" && value == k.value(&preset).Interface() // for the preset's own strategy
		if value == old[key] || tuned {
			next := now[key]
			if after == preset.Sync.Strategy {
				next = k.value(&preset).Interface()
			}
			l.assign(k, next, "default of sync.strategy = "+after)
		}
	}
	if !l.cfg.Exchanging() && l.origins["run.workers"].layer != l.layers {
		l.cfg.Run.Workers = 1
	}
}

// assign stores a value that strategy.Defaults holds, a string or a float64.
func (l *loader) assign(k Key, value any, where string) {
	if why := k.assign(&l.cfg, value); why != "" {
		panic("config: default of " + k.Name + " " + why)
	}
	l.origins[k.Name] = origin{where, 0} // nobody set it: a contradiction is with what was set
}

func (l *loader) set(k Key, raw any, where, text string) {
	if why := k.assign(&l.cfg, raw); why != "" {
		l.broken = mark(l.broken, k.Name)
		l.problem(where, k.Name, text, why)
		return
	}
	delete(l.broken, k.Name)
	l.origins[k.Name] = origin{where, l.layers}
}

func mark(set map[string]bool, name string) map[string]bool {
	if set == nil {
		set = map[string]bool{}
	}
	set[name] = true
	return set
}

// readFile assigns every key of the document, in an order that does not depend on
// Go's maps.
func (l *loader) readFile(doc *Document) {
	tables, _ := Tables()
	for _, name := range sortedKeys(doc.Values) {
		if name == "preset" {
			continue
		}
		table, isTable := doc.Values[name].(map[string]any)
		if !slices.Contains(tables, name) || !isTable {
			l.unknownTop(doc, name, isTable, tables)
			continue
		}
		for _, last := range sortedKeys(table) {
			full, raw := name+"."+last, table[last]
			if k, ok := l.key(full); ok {
				l.set(k, raw, doc.Where(full), shortText(raw))
			} else {
				l.problem(doc.Where(full), full, shortText(raw), unknownKey(full, l.keys))
			}
		}
	}
}

func (l *loader) unknownTop(doc *Document, name string, isTable bool, tables []string) {
	where, raw := doc.Where(name), doc.Values[name]
	switch {
	case slices.Contains(tables, name):
		l.problem(where, name, shortText(raw), "is a table: write ["+name+"] and its keys below it")
	case isTable:
		why := "unknown table"
		if guess := nearest(name, tables); guess != "" {
			why += " (did you mean [" + guess + "]?)"
		}
		l.problem(where, "["+name+"]", "", why+"; allowed: "+strings.Join(tables, ", "))
	default:
		l.problem(where, name, shortText(raw), unknownKey(name, l.keys))
	}
}

func (l *loader) key(name string) (Key, bool) {
	for _, k := range l.keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// locate picks the key that a contradiction is reported at: the one that was set in
// the latest layer, the first of them when there are several.
func (l *loader) locate(names []string) (Key, string) {
	best, bestOrigin := names[0], l.origins[names[0]]
	for _, name := range names[1:] {
		if o := l.origins[name]; o.layer > bestOrigin.layer {
			best, bestOrigin = name, o
		}
	}
	k, _ := l.key(best)
	if bestOrigin.where == "" {
		return k, "preset " + l.preset
	}
	return k, bestOrigin.where
}

// sorted orders problems by file line, then those of --set.
func (l *loader) sorted() []Problem {
	line := func(p Problem) int {
		cut := strings.LastIndexByte(p.Where, ':')
		n, err := strconv.Atoi(p.Where[cut+1:])
		if err != nil {
			return 1 << 30
		}
		return n
	}
	sort.SliceStable(l.problems, func(i, j int) bool { return line(l.problems[i]) < line(l.problems[j]) })
	return l.problems
}

func unknownKey(name string, keys []Key) string {
	if guess := suggestKey(name, keys); guess != "" {
		return "unknown key (did you mean " + guess + "?)"
	}
	return "unknown key; `loco config show` lists them all"
}

func unknownPreset(name string) string {
	why := "unknown preset"
	if guess := nearest(name, presetNames()); guess != "" {
		why += " (did you mean " + guess + "?)"
	}
	return why + "; allowed: " + strings.Join(presetNames(), ", ")
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// shortText writes a decoded value for a message.
func shortText(raw any) string {
	switch x := raw.(type) {
	case string:
		return strconv.Quote(x)
	case float64:
		return formatFloat(x)
	case map[string]any:
		return "{...}"
	case []any:
		return "[...]"
	}
	return fmt.Sprint(raw)
}
