package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command that takes words in front of the
// words: people write them in either order, and the parser of flags stops at
// the first word. What stands behind "--" is words.
func flagsFirst(args []string, commands []*cli.Command) []string {
	if len(args) < 3 {
		return args
	}
	at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[1]) && c.ArgsUsage != "" })
	if at < 0 {
		return args
	}
	var flags, words []string
	for rest := args[2:]; len(rest) > 0; {
		w := rest[0]
		rest = rest[1:]
		switch {
		case w == "--":
			words, rest = append(words, rest...), nil
		case len(w) < 2 || w[0] != '-':
			words = append(words, w)
		case takesValue(commands[at], w) && len(rest) > 0:
			flags, rest = append(flags, w, rest[0]), rest[1:]
		default:
			flags = append(flags, w)
		}
	}
	return slices.Concat(args[:2], flags, []string{"--"}, words)
}

// takesValue reports whether the word after this flag is its value.
func takesValue(c *cli.Command, flag string) bool {
	name := strings.TrimPrefix(flag[1:], "-")
	for _, f := range c.Flags {
		if g, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return g.TakesValue()
		}
	}
	return false
}
