// The ceiling of forwarding: the host's own request, as it came, to the origin.
export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.ORIGIN_URL + pathname + search, request));
  },
};
