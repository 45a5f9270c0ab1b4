package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"baton/config"
)

// with runs baton with more variables and returns all it said, with its status.
func with(t *testing.T, variables []string, args ...string) (string, int) {
	t.Helper()
	cmd := baton(t, args...)
	cmd.Env = append(cmd.Env, variables...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said.String(), cmd.ProcessState.ExitCode()
}

// TestConfigShow wants each kind of place to be shown: flag, variable, line of the file, default.
func TestConfigShow(t *testing.T) {
	file := write(t, "listen:\n  udp: :5070\n  tcp: :5071\n")
	variables := []string{"BATON_LISTEN_UDP=:5080", "BATON_DATA=/from/variable"}
	said, code := with(t, variables, "config", "show", "--config", file, "--data", "/from/flag")
	if code != 0 {
		t.Fatalf("status %d\n%s", code, said)
	}
	for _, want := range []string{
		`(?m)^data +/from/flag +--data$`,
		`(?m)^listen\.udp +:5080 +BATON_LISTEN_UDP$`,
		`(?m)^listen\.tcp +:5071 +` + regexp.QuoteMeta(file) + `:3$`,
		`(?m)^listen\.tls +:5061 +default$`,
		`(?m)^domain +- +default$`,
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	said, _ = with(t, variables, "config", "show", "--json")
	var all []config.Setting
	if err := json.Unmarshal([]byte(said), &all); err != nil {
		t.Fatalf("%v in %s", err, said)
	}
	found := false
	for _, s := range all {
		found = found || s.Field == "data" && s.Values[0] == "/from/variable" && s.From == config.Source{Kind: "variable", Name: "BATON_DATA"}
	}
	if !found {
		t.Errorf("data does not come from BATON_DATA in %s", said)
	}
}

// TestConfigShowFits wants what nothing sets to fit a terminal of 80 columns.
func TestConfigShowFits(t *testing.T) {
	said := wants(t, 0, `(?m)^advertise\.local `, "config", "show", "--data", "/srv/baton")
	for line := range strings.Lines(said) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestConfigFromEnvironment wants BATON_CONFIG to name the file, errors to name the variable, and a node to use what
// variables say.
func TestConfigFromEnvironment(t *testing.T) {
	file := write(t, "log: {level: warn}\n")
	if said, code := with(t, []string{"BATON_CONFIG=" + file}, "check"); code != 0 || said != file+" is good\n" {
		t.Errorf("status %d, said %s", code, said)
	}
	said, code := with(t, []string{"BATON_LISTEN_UDP=5060", "BATON_LOG_LEVEL=loud"}, "serve", "--data", shortDir(t))
	if code != 5 || !strings.HasPrefix(said, "BATON_LISTEN_UDP: listen.udp: ") || !strings.Contains(said, "\nBATON_LOG_LEVEL: log.level: ") {
		t.Errorf("status %d, said %s", code, said)
	}
	t.Setenv("BATON_LOG_FORMAT", "json")
	dir := shortDir(t)
	p := serve(t, dir)
	if !strings.Contains(p.errs.String(), `"msg":"node is running"`) {
		t.Errorf("the node does not log JSON:\n%s", p.errs.String())
	}
	wants(t, 0, `(?m)^log\.format +json +BATON_LOG_FORMAT$`, "config", "show", "--running", "--data", dir)
	wants(t, 3, `no node is running`, "config", "show", "--running", "--data", shortDir(t))
}
