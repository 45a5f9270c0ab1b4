package web

import (
	"net/http"
	"slices"

	"baton/registrar"
)

func (s *Server) devices(r *http.Request) (any, error) {
	name := r.URL.Query().Get("user")
	if name != "" {
		u, err := s.known(name)
		if err != nil {
			return nil, err
		}
		name = u.Name
	}
	shown := []Device{}
	for _, d := range s.Registrar.Devices(name) {
		shown = append(shown, s.showDevice(d))
	}
	return shown, nil
}

// found is the device that the path names.
func (s *Server) found(r *http.Request) (registrar.Device, error) {
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return registrar.Device{}, err
	}
	return s.Registrar.Find(u.Name, r.PathValue("device"))
}

func (s *Server) device(r *http.Request) (any, error) {
	d, err := s.found(r)
	if err != nil {
		return nil, err
	}
	return s.showDevice(d), nil
}

func (s *Server) changeDevice(r *http.Request) (any, error) {
	var want DeviceChange
	if err := read(r, &want); err != nil {
		return nil, err
	}
	d, err := s.found(r)
	if err != nil {
		return nil, err
	}
	if want.Ringless != nil {
		kept := "" // on is the default
		if !*want.Ringless {
			kept = "off"
		}
		if err := s.Registrar.Set(d.User, d.Name, registrar.Ringless, kept); err != nil {
			return nil, err
		}
	}
	if m := want.Media; m != nil {
		if *m != "" && !slices.Contains(registrar.MediaModes, *m) {
			return nil, refuse(http.StatusBadRequest, "media: %q: auto, relay or direct is taken", *m)
		}
		if err := s.Registrar.Set(d.User, d.Name, registrar.MediaMode, *m); err != nil {
			return nil, err
		}
	}
	if want.Name != nil {
		return nil, s.Registrar.Rename(d.User, d.Name, *want.Name)
	}
	return nil, nil
}

func (s *Server) forgetDevice(r *http.Request) (any, error) {
	d, err := s.found(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Registrar.Forget(d.User, d.Name)
}

func (s *Server) showDevice(d registrar.Device) Device { return showDevice(d, s.Registrar.GRUU(d)) }

func showDevice(d registrar.Device, gruu string) Device {
	shown := Device{
		User: d.User, Index: d.Index, Name: d.Name, Kind: string(d.Kind), Key: d.Key, Here: d.Here(), Since: d.Since,
		Reason: d.Reason, Instance: d.Instance, UserAgent: d.UserAgent, GRUU: gruu,
		Ringless: d.Profile[registrar.Ringless] != "off", Media: d.Profile[registrar.MediaMode], Learnt: map[string]string{},
	}
	if b := d.Binding; b != nil {
		shown.Address = b.Flow.Remote.String()
		shown.Transport = b.Flow.Transport
		shown.Contact = b.Contact
		shown.Registered = &b.Registered
		shown.Expires = &b.Expires
	}
	if a := d.Answering(); a.Way != "" {
		shown.Answering = &a
	}
	for _, name := range registrar.Learnable {
		if value := d.Profile[name]; value != "" && name != registrar.LearntAnswer {
			shown.Learnt[name] = value
		}
	}
	return shown
}
