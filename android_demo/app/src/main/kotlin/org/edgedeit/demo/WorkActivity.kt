package org.edgedeit.demo

import android.app.Activity

/** A screen of work that goes on while the phone is turned and ends with the screen. */
abstract class WorkActivity<T : Work> : Activity() {
    protected lateinit var model: T

    override fun onRetainNonConfigurationInstance(): Any = model

    override fun onDestroy() {
        model.onChange = {}
        if (!isChangingConfigurations) model.stop()
        super.onDestroy()
    }
}
