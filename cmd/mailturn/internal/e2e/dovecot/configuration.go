package dovecot

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// configure writes the configuration, and gives the directory to the user that Dovecot runs as.
func (s *Server) configure(options Options) error {
	text, err := s.configuration(options)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("dovecot.conf"), []byte(text), 0o600); err != nil {
		return err
	}
	own := []string{"", "dovecot.conf", "run", "mail"}
	for _, name := range own[2:] {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	if options.SSL != "" {
		pair, _, err := certs.SelfSigned(s.dir, []string{"localhost"}, time.Now())
		if err != nil {
			return err
		}
		for from, to := range map[string]string{pair.Cert: "tls.crt", pair.Key: "tls.key"} {
			if err := os.Rename(from, s.path(to)); err != nil {
				return err
			}
			own = append(own, to)
		}
	}
	if s.credential == nil {
		return nil
	}
	for _, name := range own {
		if err := os.Chown(s.path(name), int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// configuration is that of a server of one user: what a distribution's needs root for, other users and chroot(2), is taken out.
func (s *Server) configuration(options Options) (string, error) {
	group, err := user.LookupGroupId(s.account.Gid)
	if err != nil {
		return "", err
	}
	var text, metadata string
	count, unlimited := "service_count", "0" // how many clients a process serves in its life
	switch s.version {
	case "2.3":
		text = configuration23(options)
		if options.AttributeDict != "" {
			metadata = "mail_attribute_dict = " + options.AttributeDict + "\nprotocol imap {\n  imap_metadata = yes\n}\n"
		}
	case "2.4":
		if options.AnyDomain || options.SASL {
			return "", errors.New("AnyDomain and SASL are for Dovecot 2.3")
		}
		text = configuration24(options)
		count, unlimited = "restart_request_count", "unlimited"
		if metadata, err = attributeDict24(options.AttributeDict); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("unknown version %s of Dovecot", s.version)
	}
	if options.ServerComment != "" {
		metadata += "mail_server_comment = " + options.ServerComment + "\n"
	}
	served := "1"
	if options.ClientsPerProcess > 1 {
		served = unlimited
	}
	text += common
	if options.SSL == "" {
		text += "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n"
	}
	if s.SASLAddr != "" {
		text += "service auth {\n  inet_listener {\n    address = 127.0.0.1\n    port = " + port(s.SASLAddr) + "\n  }\n}\n"
	}
	text = strings.NewReplacer(
		"DIR", s.dir, "USER", s.account.Username, "GROUP", group.Name, "PORT", port(s.Addr), "PASSWORD", Password, "SSL", options.SSL,
		"CLIENTS", strconv.Itoa(max(options.ClientsPerProcess, 1)), "SERVED", served, "COUNT", count, "UNLIMITED", unlimited,
		"HOSTS", strings.TrimSpace("127.0.0.1 "+options.Host), "LISTENER", options.Listener,
	).Replace(text)
	return text + metadata + options.Settings + "\n", nil
}

// common is read by both versions.
const common = `
base_dir = DIR/run
state_dir = DIR/run
log_path = /dev/stderr
listen = HOSTS
auth_mechanisms = plain login
default_internal_user = USER
default_internal_group = GROUP
default_login_user = USER
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
default_client_limit = 16384
default_vsz_limit = 1G
namespace inbox {
  inbox = yes
}
service anvil {
  chroot =
}
service imap-login {
  chroot =
  COUNT = UNLIMITED
  inet_listener imap {
    port = PORT
    LISTENER
  }
  inet_listener imaps {
    port = 0
  }
}
service imap {
  client_limit = CLIENTS
  COUNT = SERVED
}
`

func configuration23(options Options) string {
	text := `
protocols = imap
mail_location = maildir:~/Maildir
imap_capability = +XCHATMAIL XDELTAPUSH
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=USER gid=GROUP home=DIR/mail/%u
}
`
	if options.SSL == "" {
		text += "ssl = no\ndisable_plaintext_auth = no\nauth_failure_delay = 0\nmail_max_userip_connections = 0\n"
	} else {
		text += "ssl = SSL\nssl_cert = <DIR/tls.crt\nssl_key = <DIR/tls.key\n"
	}
	if options.AnyDomain {
		text += "auth_username_format = %Ln\n"
	} else {
		text += "auth_username_format = %Lu\n"
	}
	return text
}

func configuration24(options Options) string {
	text := `dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap
mail_driver = maildir
mail_path = ~/Maildir
passdb static {
  password = PASSWORD
}
userdb static {
  fields {
    uid = USER
    gid = GROUP
    home = DIR/mail/%{user}
  }
}
`
	if options.SSL == "" {
		return text + "ssl = no\nauth_allow_cleartext = yes\nauth_failure_delay = 0\nmail_max_userip_connections = 0\n"
	}
	return text + "ssl = SSL\nssl_server_cert_file = DIR/tls.crt\nssl_server_key_file = DIR/tls.key\n"
}

// attributeDict24 says mail_attribute_dict = proxy:PATH:NAME or file:PATH as Dovecot 2.4 has it.
func attributeDict24(dict string) (string, error) {
	fields := strings.Split(dict, ":")
	var settings string
	switch {
	case dict == "":
		return "", nil
	case fields[0] == "proxy" && len(fields) == 3:
		settings = "dict proxy {\n    name = " + fields[2] + "\n    socket_path = " + fields[1]
	case fields[0] == "file" && len(fields) == 2:
		settings = "dict file {\n    path = " + strings.ReplaceAll(fields[1], "%h", "%{home}")
	default:
		return "", fmt.Errorf("dictionary %q: want proxy:PATH:NAME or file:PATH for Dovecot 2.4", dict)
	}
	return "mail_attribute {\n  " + settings + "\n  }\n}\nprotocol imap {\n  imap_metadata = yes\n}\n", nil
}
