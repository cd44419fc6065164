package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"loco/gossip/codec"
	"loco/trainer/data"
	"loco/trainer/strategy"
)

const (
	maxTextBytes = 4096 // of a string value
	maxListItems = 256  // of a list value
)

// Key describes one key, read from the tag of its field.
type Key struct {
	Name     string // "sync.gamma"
	Table    string // "sync"
	Kind     string // "text", "whole number", "number", "true or false", "duration", "list of texts", "list of numbers"
	Doc      string
	OneOf    []string // allowed texts, nil for any
	Identity bool     // part of what identifies the run

	bounds bounds
	field  []int // index path in Config
}

// Allowed says in words what the key accepts.
func (k Key) Allowed() string {
	switch {
	case k.OneOf != nil:
		return "one of " + strings.Join(k.OneOf, ", ")
	case k.bounds.set:
		return k.Kind + ", " + k.bounds.String()
	}
	return k.Kind
}

// Ends returns the smallest and the largest value that the key accepts by itself, as --set
// takes them; those of an end that is left out, and of a key without bounds, are not there.
func (k Key) Ends() (ends []string) {
	if k.bounds.set && !k.bounds.loOpen {
		ends = append(ends, k.bounds.loText)
	}
	if k.bounds.set && !k.bounds.hiOpen {
		ends = append(ends, k.bounds.hiText)
	}
	return ends
}

// Tables returns the table names and their one-line documentation, in file order.
func Tables() (names []string, docs map[string]string) {
	docs = map[string]string{}
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("toml")
		names = append(names, name)
		docs[name] = t.Field(i).Tag.Get("doc")
	}
	return names, docs
}

// registries are where the allowed texts of a key come from, by what stands behind "oneof:=".
var registries = map[string]func() []string{
	"strategies": strategy.Names, "codecs": codec.Names, "tokenizers": data.TokenizerNames,
}

// Keys returns every key in file order.
func Keys() []Key {
	var keys []Key
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		table := t.Field(i)
		for _, f := range reflect.VisibleFields(table.Type) { // also of what a table embeds
			if f.Anonymous || f.Tag.Get("toml") == "-" {
				continue
			}
			k := Key{
				Name: table.Tag.Get("toml") + "." + f.Tag.Get("toml"), Table: table.Tag.Get("toml"),
				Kind: kindOf(f.Type), Doc: f.Tag.Get("doc"), Identity: f.Tag.Get("id") != "-", field: append([]int{i}, f.Index...),
			}
			if list, ok := f.Tag.Lookup("oneof"); ok {
				k.OneOf = strings.Split(list, "|")
				if name, registry := strings.CutPrefix(list, "="); registry {
					k.OneOf = registries[name]()
				}
			}
			k.bounds = parseBounds(f.Tag.Get("range"), k.Kind)
			keys = append(keys, k)
		}
	}
	return keys
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration](), t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[[]int]():
		return "list of numbers"
	case t.Kind() == reflect.Slice:
		return "list of texts"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.String:
		return "text"
	}
	return "whole number"
}

// value returns the key's field in c.
func (k Key) value(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.field)
}

// Text returns the key's value in c as TOML.
func (k Key) Text(c *Config) string {
	v := k.value(c)
	switch x := v.Interface().(type) {
	case Duration:
		return quote(x.String())
	case time.Duration:
		return quote(Duration(x).String())
	case string:
		return quote(x)
	case float64:
		return formatFloat(x)
	case []string:
		parts := make([]string, len(x))
		for i, s := range x {
			parts[i] = quote(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []int:
		return strings.ReplaceAll(fmt.Sprint(x), " ", ", ")
	}
	return fmt.Sprint(v.Interface())
}

// quote writes a TOML basic string. Validation keeps control characters out.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// formatFloat writes the shortest text that reads back as the same bits, with a
// point or an exponent so that it stays a TOML float.
func formatFloat(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eIN") {
		s += ".0"
	}
	return s
}

// assign stores a decoded TOML value. It returns what is wrong with it, "" for
// nothing; bounds are not its business.
func (k Key) assign(c *Config, raw any) string {
	v := k.value(c)
	switch k.Kind {
	case "text":
		if s, ok := raw.(string); ok {
			v.SetString(s)
			return ""
		}
	case "true or false":
		if b, ok := raw.(bool); ok {
			v.SetBool(b)
			return ""
		}
	case "number":
		return k.assignFloat(v, raw)
	case "whole number":
		if n, ok := raw.(int64); ok {
			return assignInt(v, n)
		}
	case "duration":
		if s, ok := raw.(string); ok {
			d, err := time.ParseDuration(s)
			if err != nil {
				return `not a duration; write "250ms", "30s", "10m" or "2h"`
			}
			v.SetInt(int64(d))
			return ""
		}
	case "list of texts":
		if items, ok := raw.([]any); ok {
			return assignList[string](v, items)
		}
	case "list of numbers":
		if items, ok := raw.([]any); ok {
			return assignList[int64](v, items)
		}
	}
	return fmt.Sprintf("has type %s; allowed: %s", tomlKind(raw), k.Allowed())
}

func (k Key) assignFloat(v reflect.Value, raw any) string {
	switch x := raw.(type) {
	case int64:
		v.SetFloat(float64(x))
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return "must be a finite number"
		}
		v.SetFloat(x)
	default:
		return fmt.Sprintf("has type %s; allowed: %s", tomlKind(raw), k.Allowed())
	}
	return ""
}

func assignInt(v reflect.Value, n int64) string {
	if v.CanUint() {
		if n < 0 {
			return "must not be negative"
		}
		v.SetUint(uint64(n))
		return ""
	}
	if v.OverflowInt(n) {
		return "is too large for this machine"
	}
	v.SetInt(n)
	return ""
}

// assignList stores a list whose items a TOML decoder gives as T.
func assignList[T string | int64](v reflect.Value, items []any) string {
	if len(items) > maxListItems {
		return fmt.Sprintf("has %d items, at most %d are allowed", len(items), maxListItems)
	}
	list := reflect.Zero(v.Type()) // nil when empty, so that equal lists are equal values
	for i, item := range items {
		x, ok := item.(T)
		if !ok {
			return fmt.Sprintf("item %d has type %s; allowed: %s", i+1, tomlKind(item), tomlKind(x))
		}
		list = reflect.Append(list, reflect.ValueOf(x).Convert(v.Type().Elem()))
	}
	v.Set(list)
	return ""
}

func tomlKind(raw any) string {
	switch raw.(type) {
	case string:
		return "text"
	case int64:
		return "whole number"
	case float64:
		return "number"
	case bool:
		return "true or false"
	case []any:
		return "list"
	case map[string]any:
		return "table"
	}
	return "date or time"
}

// check returns what is wrong with the key's value in c by itself, "" for nothing.
func (k Key) check(c *Config) string {
	switch x := k.value(c).Interface().(type) {
	case string:
		if why := checkText(x); why != "" {
			return why
		}
		return k.checkOneOf(x)
	case []string:
		for i, s := range x {
			if why := checkText(s); why != "" {
				return fmt.Sprintf("item %d %s", i+1, why)
			}
		}
	case []int:
		return checkNumbers(x)
	case Duration:
		return k.bounds.check(float64(x))
	case time.Duration:
		return k.bounds.check(float64(x))
	case float64:
		return k.bounds.check(x)
	case int:
		return k.bounds.check(float64(x))
	case int64:
		return k.bounds.check(float64(x))
	case uint64:
		if x > math.MaxInt64 { // TOML has no larger integer
			return "must be at most 9223372036854775807"
		}
	}
	return ""
}

func (k Key) checkOneOf(s string) string {
	if k.OneOf == nil {
		return ""
	}
	for _, allowed := range k.OneOf {
		if s == allowed {
			return ""
		}
	}
	why := "must be " + k.Allowed()
	if guess := nearest(s, k.OneOf); guess != "" {
		why += fmt.Sprintf(" (did you mean %s?)", guess)
	}
	return why
}

func checkText(s string) string {
	if len(s) > maxTextBytes {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxTextBytes)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "must be UTF-8 text without control characters"
	}
	return ""
}
