# A policy that reads a clock; built without the restricted capabilities.
package cordon

about := data.about

decide := {"now": time.now_ns()}
