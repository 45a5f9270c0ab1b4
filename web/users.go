package web

import (
	"net/http"

	"baton/registrar"
)

func (s *Server) users(*http.Request) (any, error) {
	shown := []User{}
	for _, u := range s.Registrar.Users() {
		shown = append(shown, showUser(u, s.Registrar.Devices(u.Name)))
	}
	return shown, nil
}

func (s *Server) user(r *http.Request) (any, error) {
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	return showUser(u, s.Registrar.Devices(u.Name)), nil
}

// known is the user with that name or number.
func (s *Server) known(name string) (registrar.User, error) {
	u, ok := s.Registrar.User(name)
	if !ok {
		return u, refuse(http.StatusNotFound, "there is no user %q", name)
	}
	return u, nil
}

func (s *Server) addUser(r *http.Request) (any, error) {
	var want NewUser
	if err := read(r, &want); err != nil {
		return nil, err
	}
	u, password, err := s.Registrar.AddUser(registrar.UserSpec{
		Name: want.Name, Display: want.Display, Numbers: want.Numbers, Password: want.Password,
	})
	if err != nil {
		return nil, err
	}
	if want.Password != "" {
		password = ""
	}
	return Added{User: showUser(u, nil), Password: password}, nil
}

func (s *Server) setPassword(r *http.Request) (any, error) {
	var want Password
	if err := read(r, &want); err != nil {
		return nil, err
	}
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	password, err := s.Registrar.SetPassword(u.Name, want.Password)
	if err != nil {
		return nil, err
	}
	if want.Password != "" {
		password = ""
	}
	return Password{Password: password}, nil
}

func (s *Server) removeUser(r *http.Request) (any, error) {
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	return nil, s.Registrar.RemoveUser(u.Name)
}
