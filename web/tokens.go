package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"baton/registrar"
)

// Token is a token as the API shows it: nothing that opens anything is in it.
type Token struct {
	ID      string     `json:"id"`
	Kind    string     `json:"kind"`           // user, admin
	User    string     `json:"user,omitempty"` // whose
	Name    string     `json:"name,omitempty"` // the device that the user signed in on, or what the operator calls it
	Created time.Time  `json:"created"`
	Used    time.Time  `json:"used"`              // last, to the hour
	Expires *time.Time `json:"expires,omitempty"` // nil = never
}

// WantToken is what POST /tokens takes.
type WantToken struct {
	Name    string     `json:"name,omitempty"`
	Expires *time.Time `json:"expires,omitempty"` // nil = never
}

// NewToken is a new token of an administrator, with its text, which is told this once.
type NewToken struct {
	Token
	Text string `json:"token"`
}

// Revoked is how many tokens of a user there were.
type Revoked struct {
	Revoked int `json:"revoked"`
}

func showToken(t registrar.Token) Token {
	shown := Token{ID: t.ID, Kind: string(t.Kind), User: t.User, Name: t.Label, Created: t.Created, Used: t.Used}
	if !t.Expires.IsZero() {
		shown.Expires = &t.Expires
	}
	return shown
}

func (s *Server) tokens(*http.Request) (any, error) {
	shown := []Token{}
	for _, t := range s.Registrar.Tokens() {
		shown = append(shown, showToken(t))
	}
	return shown, nil
}

func (s *Server) addToken(r *http.Request) (any, error) {
	var want WantToken
	if err := read(r, &want); err != nil {
		return nil, err
	}
	var until time.Time
	if want.Expires != nil {
		until = *want.Expires
	}
	t, text, err := s.Registrar.AddAdminToken(want.Name, until)
	if err != nil {
		return nil, err
	}
	return NewToken{showToken(t), text}, nil
}

func (s *Server) revokeToken(r *http.Request) (any, error) {
	return nil, s.Registrar.RevokeToken(r.PathValue("token"))
}

func (s *Server) revokeTokens(r *http.Request) (any, error) {
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	n, err := s.Registrar.RevokeTokens(u.Name)
	if err != nil {
		return nil, err
	}
	return Revoked{n}, nil
}

// Tokens lists all tokens that are good.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return ask[[]Token](ctx, c, "GET", "tokens", nil)
}

// AddToken makes an administrator's token. It is made at the control socket alone.
func (c *Client) AddToken(ctx context.Context, t WantToken) (NewToken, error) {
	return ask[NewToken](ctx, c, "POST", "tokens", t)
}

// RevokeToken ends a token at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, "DELETE", "tokens/"+url.PathEscape(id), nil, nil)
}

// RevokeTokens ends all tokens of a user at once.
func (c *Client) RevokeTokens(ctx context.Context, user string) (Revoked, error) {
	return ask[Revoked](ctx, c, "DELETE", "users/"+url.PathEscape(user)+"/tokens", nil)
}
