package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/config"
)

// aclOf returns the rules of docs/cluster.md, without one of them.
func aclOf(without string) string {
	rules := " ~mailturn:* resetchannels -@all " + strings.Join(documentedRules, " ") + " "
	return "user mailturn on >sesame" + strings.TrimSuffix(strings.Replace(rules, " "+without+" ", " ", 1), " ")
}

// TestMissingPermission takes each rule from the user of Redis in turn. Operators must be told which command is refused, what it is for,
// and which rule to add, and that all is well when it is added.
func TestMissingPermission(t *testing.T) {
	for _, tt := range []struct {
		missing, command string
		part             Part
		log              string
	}{
		{"+@hash", "HDEL|HLEN|HSTRLEN|HSET", Announcements, "cluster: Redis refuses what announcements need; this machine carries on alone"},
		{"+@sortedset", "ZRANGEBYSCORE", Announcements, "cluster: Redis refuses what announcements need; this machine carries on alone"},
		{"+time", "TIME", Announcements, "cluster: Redis refuses what announcements need; this machine carries on alone"},
		{"+@scripting", "EVALSHA", Announcements, "cluster: Redis refuses what announcements need; this machine carries on alone"},
		{"~mailturn:*", "", Announcements, "cluster: Redis refuses what announcements need; this machine carries on alone"},
		{"+@stream", "XADD|XREVRANGE|XREAD", BansAndNames, "cluster: Redis refuses what bans and names need; they are not shared"},
		{"+del", "DEL", BansAndNames, "cluster: Redis refuses what bans and names need; they are not shared"},
		{"+pexpire", "PEXPIRE", SharedLimits, "cluster: Redis does not count what some users have; each relay counts on its own what they have"},
	} {
		t.Run(tt.missing, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "user default off", aclOf(tt.missing), "user operator on >admin ~* +@all")
			settings := settingsFor(t, modeStandalone, server.Addr)
			settings.Block.User.V, settings.Block.Password = "mailturn", config.Value[string]{V: "sesame", Set: true}
			m := newMachine(settings, "one", "1")
			logger := slog.New(slog.NewTextHandler(m.log, nil))
			shared := Shared{Held: func() []Entry { return nil }, Apply: func([]Entry) {}, Happened: func(string) {}}
			if tt.part == BansAndNames {
				shared.Names = &Names{
					Issuer: "one", Lifetime: 1e9, Zeros: -1, SetZeros: func(int) {}, Issued: func() ([]Name, bool) { return nil, true },
					All: func() []Name { return nil }, Learn: func([]Name, bool) {},
				}
			}
			x, l := NewExchange(m.Directory, "1", shared, logger), NewLimits(m.Directory, "1")
			m.Start()
			t.Cleanup(m.Stop)
			if tt.part == BansAndNames {
				eventually(t, "relays", m.names, "one") // until then, only the Directory logs
				x.Start()
				t.Cleanup(x.Stop)
			}
			if tt.part == SharedLimits {
				eventually(t, "relays", m.names, "one")
				l.Start()
				t.Cleanup(l.Stop)
				l.Hold("alice", Holding{Addresses: 1})
			}
			outage := func() string {
				outages := m.Status().Outages
				if len(outages) != 1 || outages[0].Since.IsZero() {
					return fmt.Sprintf("%+v", outages)
				}
				return fmt.Sprintf("%s, %v", outages[0].Part, IsPermission(outages[0].Err))
			}
			eventually(t, "outage", outage, string(tt.part)+", true")
			message, want := m.Status().Outages[0].Err.Error(), fmt.Sprintf(`the user "mailturn" of Redis may not run (%s): add %s to its ACL rules \(`,
				tt.command, regexp.QuoteMeta(tt.missing))
			if tt.command == "" {
				want = strings.Replace(want, "run ()", "use the keys of mailturn", 1)
			}
			if !regexp.MustCompile("^" + want).MatchString(message) {
				t.Errorf("the error is %s", message)
			}
			if n := m.log.count(tt.log); n != 1 || m.log.count("may not ") != 1 {
				t.Errorf("%q was logged %d times:\n%s", tt.log, n, &m.log.text)
			}

			operator := settings
			operator.Block.User.V, operator.Block.Password.V = "operator", "admin"
			client := operator.client()
			defer client.Close()
			if err := client.Do(t.Context(), "ACL", "SETUSER", "mailturn", tt.missing).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "outage after the rule was added", outage, "[]")
			if m.log.count("level=INFO msg=\"cluster: Redis c")+m.log.count("shared again") != 1 {
				t.Errorf("the end was not logged once:\n%s", &m.log.text)
			}
		})
	}
}

// TestPermissionErrors has the answers of other versions of Redis.
func TestPermissionErrors(t *testing.T) {
	for text, want := range map[string]string{
		"NOPERM this user has no permissions to run the 'xadd' command":                                                                              "run XADD: add +@stream ",
		"NOPERM User mailturn has no permissions to run the 'client|setname' command":                                                                "run CLIENT: add +@connection ",
		"NOPERM No permissions to access a key":                                                                                                      "use the keys of mailturn: add ~p:* ",
		"ERR ACL failure in script: User mailturn has no permissions to run the 'zadd' command script: " + announce.Hash() + ", on @user_script:31.": "run ZADD: add +@sortedset ",
		"ERR The user executing the script can't run this command or subcommand script: " + leave.Hash() + ", on @user_script:2.":                    "run HGET: add +@hash ",
		"ERR The user executing the script can't run this command or subcommand script: " + leave.Hash() + ", on @user_script:99.":                   "use a command",
		"ERR The user executing the script can't run this command or subcommand script: " + strings.Repeat("0", 40) + ", on @user_script:2.":         "use a command",
		"OOM command not allowed when used memory > 'maxmemory'.":                                                                                    "",
		"LOADING Redis is loading the dataset in memory":                                                                                             "",
	} {
		got := permissionError(reply(text), "", "p")
		if want == "" && got != error(reply(text)) || !strings.HasPrefix(got.Error(), "the user \"default\" of Redis may not "+want) && want != "" {
			t.Errorf("%s:\n%v", text, got)
		}
	}
}

// reply is an error that Redis has sent.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// TestScripts checks that an error in any script can be explained.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") {
			made += strings.Count(string(text), "= newScript(`") + strings.Count(string(text), "= redis.NewScript(")
		}
	}
	if made != len(scripts()) {
		t.Errorf("there are %d scripts, and scripts returns %d", made, len(scripts()))
	}
}
