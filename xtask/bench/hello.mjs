// The ceiling: what workerd does when a worker only answers.
export default {
  fetch() {
    return Response.json({ hello: "world" });
  },
};
