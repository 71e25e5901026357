package org.edgedeit.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.Frame
import org.edgedeit.core.Plane
import org.edgedeit.core.RgbImage
import org.edgedeit.core.YuvColors
import org.edgedeit.core.frameSize

/**
 * Frames of the camera, upright, one at a time: a new one is taken when the last one was given back.
 *
 * @param display how far the screen's content is turned, in degrees.
 * @param onFrame is called on the camera's thread; [ready] asks for the next one.
 * @param onProblem is called with what keeps the camera from delivering.
 */
class LiveCamera(
    context: Context,
    private val display: Int,
    private val shortSide: Int,
    private val onFrame: (RgbImage) -> Unit,
    private val onProblem: (String) -> Unit,
) {
    private val manager = context.getSystemService(CameraManager::class.java)
    private val thread = HandlerThread("edge-deit-camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var reader: ImageReader? = null
    private var device: CameraDevice? = null
    private var turn = 0
    private var opening = false

    @Volatile
    private var waiting = true

    @Volatile
    private var closed = false

    /** The next frame is wanted. */
    fun ready() {
        waiting = true
    }

    /** The caller holds the camera's permission. */
    fun open() = handler.post { attempt { openNow() } }

    fun close() {
        closed = true
        handler.post {
            device?.close()
            reader?.close()
            if (!opening) thread.quitSafely() // otherwise the camera that is being opened would stay open
        }
    }

    @SuppressLint("MissingPermission") // the caller holds it
    private fun openNow() {
        val cameras = manager.cameraIdList.associateWith(manager::getCameraCharacteristics)
        val back =
            cameras.entries.find { (_, found) ->
                found.get(CameraCharacteristics.LENS_FACING) == CameraCharacteristics.LENS_FACING_BACK
            }
        val (id, found) =
            back ?: cameras.entries.firstOrNull() ?: throw EdgeDeitException("this phone has no camera")
        val front =
            found.get(CameraCharacteristics.LENS_FACING) == CameraCharacteristics.LENS_FACING_FRONT
        turn = Frame.turn(found.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0, display, front)
        val sizes =
            found
                .get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
                ?.getOutputSizes(ImageFormat.YUV_420_888)
                .orEmpty()
                .map { Pair(it.width, it.height) }
        val (width, height) = frameSize(sizes, shortSide)
        val frames = ImageReader.newInstance(width, height, ImageFormat.YUV_420_888, BUFFERS)
        frames.setOnImageAvailableListener({ attempt { take(it) } }, handler)
        reader = frames
        manager.openCamera(id, Opened(frames), handler)
        opening = true
    }

    private inner class Opened(
        private val frames: ImageReader,
    ) : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            device = camera
            if (!leftMeanwhile(camera)) attempt { start(camera) }
        }

        override fun onDisconnected(camera: CameraDevice) {
            camera.close()
            if (!leftMeanwhile(camera)) onProblem("another app took the camera")
        }

        override fun onError(
            camera: CameraDevice,
            error: Int,
        ) {
            camera.close()
            if (!leftMeanwhile(camera)) onProblem("the camera failed (error $error)")
        }

        /** Whether the screen was left while the camera opened; then it is closed, and so is its thread. */
        private fun leftMeanwhile(camera: CameraDevice): Boolean {
            opening = false
            if (!closed) return false
            camera.close()
            thread.quitSafely()
            return true
        }

        private fun start(camera: CameraDevice) {
            val session =
                object : CameraCaptureSession.StateCallback() {
                    override fun onConfigured(session: CameraCaptureSession) =
                        attempt {
                            val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                            request.addTarget(frames.surface)
                            session.setRepeatingRequest(request.build(), null, handler)
                        }

                    override fun onConfigureFailed(session: CameraCaptureSession) =
                        onProblem(
                            "the camera does not deliver frames of ${frames.width} x ${frames.height}",
                        )
                }
            camera.createCaptureSession(listOf(frames.surface), session, handler)
        }
    }

    private fun take(frames: ImageReader) {
        val image = frames.acquireLatestImage() ?: return
        val upright =
            try {
                if (!waiting || closed) return
                waiting = false
                frameOf(image).upright(turn)
            } finally {
                image.close()
            }
        onFrame(upright)
    }

    /** Cameras deliver BT.601 of full range, as JPEG has it. */
    private fun frameOf(image: Image): Frame {
        val (y, u, v) = image.planes.map { Plane(it.buffer, 0, it.rowStride, it.pixelStride) }
        return Frame(image.width, image.height, y, u, v, YuvColors.BT601_FULL)
    }

    /** Cameras of all makers throw all kinds of exceptions; each is shown. */
    private fun attempt(action: () -> Unit) {
        if (closed) return
        try {
            action()
        } catch (error: CameraAccessException) {
            onProblem("the camera cannot be used: ${error.message}")
        } catch (error: EdgeDeitException) {
            onProblem(error.message.orEmpty())
        } catch (error: RuntimeException) {
            onProblem("the camera failed: ${error.message ?: error.javaClass.simpleName}")
        }
    }

    private companion object {
        const val BUFFERS = 2
    }
}
